//! Pages: `limit` 1 to 1000 (the rest is clamped), an opaque `cursor`, `next_cursor` null at the end. Order is stable, by
//! creation and id, so a cursor is never repeated.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::store::{Page, Position};
use crate::time::Timestamp;

const LIMIT_DEFAULT: i64 = 100;
const LIMIT_MAX: i64 = 1000;

/// The query of a list. What is not a number counts as the default: clients differ.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Paging {
    limit: Option<String>,
    cursor: Option<String>,
}

impl Paging {
    /// One row more is fetched than shown: it tells whether another page follows.
    pub(crate) fn page(&self) -> Result<Page, ApiError> {
        let after = match self.cursor.as_deref() {
            None | Some("") => None,
            Some(text) => Some(decode(text).ok_or_else(|| ApiError::invalid("`cursor` is not one we gave out"))?),
        };
        Ok(Page { after, limit: self.limit() + 1 })
    }

    fn limit(&self) -> i64 {
        let asked = self.limit.as_deref().and_then(|limit| limit.parse().ok()).unwrap_or(LIMIT_DEFAULT);
        asked.clamp(1, LIMIT_MAX)
    }

    /// `{"items":[…],"next_cursor":…}` of the rows that [`Paging::page`] fetched.
    pub(crate) fn list<T>(
        &self,
        mut rows: Vec<T>,
        position: impl Fn(&T) -> (Timestamp, &str),
        items: Vec<Value>,
    ) -> Value {
        let limit = usize::try_from(self.limit()).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| {
            let (at, id) = position(last);
            URL_SAFE_NO_PAD.encode(format!("{}:{id}", at.0))
        });
        let items: Vec<_> = items.into_iter().take(limit).collect();
        json!({"items": items, "next_cursor": next_cursor})
    }
}

fn decode(text: &str) -> Option<Position> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (at, id) = text.split_once(':')?;
    Some(Position { at_us: at.parse().ok()?, id: id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(limit: Option<&str>, cursor: Option<&str>) -> Paging {
        Paging { limit: limit.map(str::to_owned), cursor: cursor.map(str::to_owned) }
    }

    #[test]
    fn limits_are_clamped() {
        for (limit, expected) in
            [(None, 100), (Some("0"), 1), (Some("-3"), 1), (Some("500"), 500), (Some("9999"), 1000), (Some("x"), 100)]
        {
            assert_eq!(paging(limit, None).page().expect("a page").limit, expected + 1, "{limit:?}");
        }
    }

    #[test]
    fn a_cursor_leads_to_the_next_page_and_ends() {
        let rows = vec!["a", "b", "c"];
        fn position<'a>(row: &'a &'static str) -> (Timestamp, &'a str) {
            (Timestamp(7), row)
        }
        let values = |rows: &[&str]| rows.iter().map(|row| json!(row)).collect();
        let first = paging(Some("2"), None).list(rows.clone(), position, values(&rows));
        assert_eq!(first["items"], json!(["a", "b"]));
        let cursor = first["next_cursor"].as_str().expect("more follows");
        let page = paging(Some("2"), Some(cursor)).page().expect("our cursor");
        assert_eq!(page.after, Some(Position { at_us: 7, id: "b".to_owned() }));
        let last = paging(Some("2"), Some(cursor)).list(vec!["c"], position, values(&["c"]));
        assert_eq!(last, json!({"items": ["c"], "next_cursor": null}));
        for bad in ["!", "YWJj", "OjE"] {
            assert!(paging(None, Some(bad)).page().is_err(), "{bad}");
        }
    }
}
