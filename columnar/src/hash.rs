//! Hashed columns: a value becomes the SHA-256 of a salt and its text, so that equal values stay equal and nothing can be
//! read back. The text is that of [`crate::render`], which does not depend on how far a number's type has widened.

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use sha2::{Digest, Sha256};

use crate::render::render_array;
use crate::types::DataType;
use crate::widen::CastError;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// Every value as 64 lower-case hexadecimal digits: SHA-256(salt ‖ text). NULL stays NULL.
pub fn hashed(array: &ArrayRef, data_type: DataType, salt: &[u8; SALT_BYTES]) -> Result<StringArray, CastError> {
    let texts = render_array(array, data_type)?;
    let mut hashes = StringBuilder::with_capacity(texts.len(), texts.len() * 64);
    let salted = Sha256::new().chain_update(salt);
    for text in &texts {
        hashes.append_option(text.map(|text| hex::encode(salted.clone().chain_update(text).finalize())));
    }
    Ok(hashes.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int32Array, Int64Array};

    use super::*;

    const SALT: [u8; SALT_BYTES] = [7; SALT_BYTES];

    fn check(array: ArrayRef, data_type: DataType, expected: &[Option<&str>]) {
        let hashes = hashed(&array, data_type, &SALT).expect("renders");
        let digest = |text: &&str| hex::encode(Sha256::new().chain_update(SALT).chain_update(text).finalize());
        let expected: StringArray = expected.iter().map(|text| text.as_ref().map(digest)).collect();
        assert_eq!(hashes, expected, "{data_type}");
    }

    #[test]
    fn values_hash_by_their_text_and_null_stays_null() {
        check(
            Arc::new(StringArray::from(vec![Some("a"), None, Some("")])),
            DataType::String,
            &[Some("a"), None, Some("")],
        );
        check(Arc::new(BooleanArray::from(vec![Some(true), None])), DataType::Boolean, &[Some("true"), None]);
        check(Arc::new(StringArray::from(vec![r#"{"b": 1}"#])), DataType::Json, &[Some(r#"{"b": 1}"#)]);
    }

    #[test]
    fn a_number_hashes_alike_whatever_its_column_has_become() {
        check(Arc::new(Int32Array::from(vec![5])), DataType::Int, &[Some("5")]);
        check(Arc::new(Int64Array::from(vec![5])), DataType::Long, &[Some("5")]);
        check(Arc::new(Float64Array::from(vec![5.0, 0.5])), DataType::Double, &[Some("5"), Some("0.5")]);
        check(Arc::new(StringArray::from(vec!["5"])), DataType::String, &[Some("5")]);
    }

    #[test]
    fn the_salt_decides_and_no_value_shows() {
        let array: ArrayRef = Arc::new(StringArray::from(vec!["someone@example.com"]));
        let one = hashed(&array, DataType::String, &SALT).expect("renders");
        let other = hashed(&array, DataType::String, &[8; SALT_BYTES]).expect("renders");
        assert_ne!(one, other);
        assert!(one.value(0).len() == 64 && !one.value(0).contains("someone"));
    }
}
