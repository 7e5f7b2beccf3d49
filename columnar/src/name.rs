//! How the destination spells the names of a source. Pure text; two names that end alike are one name, and whoever
//! keeps the columns says so.

use serde::{Deserialize, Serialize};

/// How names are spelled; fixed when a connection is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// Lowercase words joined by `_`, as Fivetran's destinations have them.
    #[default]
    Fivetran,
    /// Verbatim.
    Source,
}

/// The destination's name of a table; unlike a column it loses a leading `_` before a letter.
#[must_use]
pub fn rename_table(name: &str, naming: Naming) -> String {
    match naming {
        Naming::Source => name.to_owned(),
        Naming::Fivetran => {
            let renamed = words(name);
            match renamed.strip_prefix('_') {
                Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => rest.to_owned(),
                _ => renamed,
            }
        }
    }
}

/// The destination's name of a column.
#[must_use]
pub fn rename_column(name: &str, naming: Naming) -> String {
    match naming {
        Naming::Source => name.to_owned(),
        Naming::Fivetran => words(name),
    }
}

/// How letters beyond ASCII are spelled in names; those that leave nothing behind are left out.
pub fn spelled_letters() -> impl Iterator<Item = (char, &'static str)> {
    ('\u{80}'..=char::MAX)
        .map(|letter| (letter, any_ascii::any_ascii_char(letter)))
        .filter(|(_, spelled)| !spelled.is_empty())
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Upper,
    Lower,
    Digit,
    Gap,
}

/// A word is a run of capitals with the lowercase run after it, a lowercase run, or a digit run; runs of anything else
/// become one `_`.
fn words(name: &str) -> String {
    let ascii = any_ascii::any_ascii(name);
    let mut renamed = String::with_capacity(ascii.len() + 4);
    let mut before = None;
    for byte in ascii.bytes() {
        let class = class_of(byte);
        if class == Class::Gap {
            if before != Some(Class::Gap) {
                renamed.push('_');
            }
        } else {
            if before.is_some_and(|before| starts_word(before, class)) {
                renamed.push('_');
            }
            renamed.push(byte.to_ascii_lowercase().into());
        }
        before = Some(class);
    }
    if renamed.is_empty() || renamed.starts_with(|first: char| first.is_ascii_digit()) {
        renamed.insert(0, '_');
    }
    renamed
}

fn class_of(byte: u8) -> Class {
    match byte {
        b'A'..=b'Z' => Class::Upper,
        b'a'..=b'z' => Class::Lower,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Gap,
    }
}

fn starts_word(before: Class, class: Class) -> bool {
    match before {
        Class::Gap => false,
        Class::Upper => class == Class::Digit,
        Class::Lower | Class::Digit => class != before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let cases = [
            ("userID", "user_id"),
            ("HTTPServer", "httpserver"),
            ("hs_v2_date_x", "hs_v_2_date_x"),
            ("7d_click", "_7_d_click"),
            ("trailing_", "trailing_"),
            ("_bool", "_bool"),
            ("__double__under__", "_double_under_"),
            ("", "_"),
            ("!!!", "_"),
            ("_", "_"),
            ("id", "id"),
            ("ID", "id"),
            ("Id", "id"),
            ("userId", "user_id"),
            ("UserId", "user_id"),
            ("user.data", "user_data"),
            ("userData", "user_data"),
            ("user data", "user_data"),
            ("user-data", "user_data"),
            ("user  -  data", "user_data"),
            ("aBC", "a_bc"),
            ("ABc", "abc"),
            ("ABcD", "abc_d"),
            ("a1", "a_1"),
            ("A1", "a_1"),
            ("1A", "_1_a"),
            ("1a2B3", "_1_a_2_b_3"),
            ("address2Line", "address_2_line"),
            ("S3Bucket", "s_3_bucket"),
            ("2024", "_2024"),
            ("café", "cafe"),
            ("Größe", "grosse"),
            ("naïveÉtat", "naive_etat"),
            ("日本", "ri_ben"),
            ("$price", "_price"),
            ("price$", "price_"),
            ("a/b\\c", "a_b_c"),
            ("createdAt(UTC)", "created_at_utc_"),
            ("%", "_"),
            ("_9", "_9"),
        ];
        for (name, expected) in cases {
            assert_eq!(rename_column(name, Naming::Fivetran), expected, "{name:?}");
        }
    }

    #[test]
    fn tables_lose_a_leading_underscore_before_a_letter() {
        let cases = [
            ("_bool", "bool"),
            ("__bool", "bool"),
            ("$Orders", "orders"),
            ("_7d", "_7_d"),
            ("7d", "_7_d"),
            ("_", "_"),
            ("OrderLines", "order_lines"),
        ];
        for (name, expected) in cases {
            assert_eq!(rename_table(name, Naming::Fivetran), expected, "{name:?}");
        }
    }

    #[test]
    fn source_naming_is_verbatim() {
        for name in ["userID", "", "_x", "日本", "a b"] {
            assert_eq!(rename_column(name, Naming::Source), name);
            assert_eq!(rename_table(name, Naming::Source), name);
        }
    }

    proptest::proptest! {
        #[test]
        fn renaming_is_idempotent(name in ".{0,20}") {
            let once = rename_column(&name, Naming::Fivetran);
            proptest::prop_assert_eq!(rename_column(&once, Naming::Fivetran), once.clone());
            proptest::prop_assert!(once.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
    }
}
