//! Whether one destination URI lies under another: by whole path components, after percent-decoding, never by text
//! prefix. What a reader or a later URL parser could understand differently is no URI here.

/// A URI taken apart: scheme, authority, decoded path components.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    scheme: String,
    authority: String,
    components: Vec<Vec<u8>>,
}

/// Whether `text` can be compared at all.
pub(crate) fn is_plain(text: &str) -> bool {
    parts(text).is_some()
}

/// Whether it is the address of a store that this version can write to.
pub(crate) fn is_known(text: &str) -> bool {
    parts(text).is_some_and(|parts| ["file", "s3", "gs", "az", "abfss"].contains(&parts.scheme.as_str()))
}

/// Whether `uri` names `prefix` itself or something below it.
pub(crate) fn lies_under(uri: &str, prefix: &str) -> bool {
    let (Some(uri), Some(prefix)) = (parts(uri), parts(prefix)) else { return false };
    uri.scheme == prefix.scheme && uri.authority == prefix.authority && uri.components.starts_with(&prefix.components)
}

/// None for white space, control characters, backslashes, user names (but the container of an `abfss` address), queries, fragments, empty or dot components, and
/// components that decode to one of these or to a separator.
fn parts(text: &str) -> Option<Parts> {
    let strange = |letter: char| letter.is_control() || letter.is_whitespace() || "\\?#".contains(letter);
    if text.contains(strange) {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(is_scheme) {
        return None;
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority_fits = if scheme == "file" { authority.is_empty() } else { !authority.is_empty() };
    if !authority_fits || authority.contains('%') || path.contains('@') {
        return None;
    }
    let names = authority.split('@');
    if names.clone().count() != 1 + usize::from(scheme == "abfss")
        || names.clone().any(str::is_empty) != (scheme == "file")
    {
        return None;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let components: Option<Vec<_>> =
        if path.is_empty() { Some(Vec::new()) } else { path.split('/').map(component).collect() };
    Some(Parts { scheme: scheme.to_owned(), authority: authority.to_owned(), components: components? })
}

fn component(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' { hex_digit(bytes.next()?)? * 16 + hex_digit(bytes.next()?)? } else { byte });
    }
    let harmless = |byte: &u8| *byte != b'/' && *byte != b'\\' && !byte.is_ascii_control();
    let named = !decoded.is_empty() && decoded != b"." && decoded != b"..";
    (named && decoded.iter().all(harmless)).then_some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_components_match() {
        for (uri, prefix, expected) in [
            ("file:///lake", "file:///lake", true),
            ("file:///lake/", "file:///lake", true),
            ("file:///lake", "file:///lake/", true),
            ("file:///lake/sales", "file:///lake", true),
            ("file:///my%20lake/a", "file:///my%20lake", true),
            ("file:///l%61ke/a", "file:///lake", true),
            ("s3://bucket/a/b", "s3://bucket/a", true),
            ("file:///anything", "file:///", true),
            ("file:///lake2", "file:///lake", false),
            ("file:///", "file:///lake", false),
            ("file:///lake/../etc", "file:///lake", false),
            ("file:///lake/%2e%2e/etc", "file:///lake", false),
            ("file:///lake/%2E./etc", "file:///lake", false),
            ("file:///lake/a%2f..%2f..", "file:///lake", false),
            ("file:///lake/a%00", "file:///lake", false),
            ("file:///lake//a", "file:///lake", false),
            ("file:///lake\\..\\etc", "file:///lake", false),
            ("file:///lake/.\t./etc", "file:///lake", false),
            ("file://localhost/lake", "file:///lake", false),
            ("file:/lake", "file:///lake", false),
            ("FILE:///lake", "file:///lake", false),
            ("s3://bucket2/a", "s3://bucket", false),
            ("s3://user@bucket/a", "s3://bucket", false),
            ("s3://bucket/a?x=1", "s3://bucket", false),
            ("s3:///a", "s3:///a", false),
            ("file:///lake/%zz", "file:///lake", false),
            ("abfss://c@a.dfs.core.windows.net/p/q", "abfss://c@a.dfs.core.windows.net/p", true),
            ("abfss://c@b.dfs.core.windows.net/p", "abfss://c@a.dfs.core.windows.net/p", false),
            ("abfss://a.dfs.core.windows.net/p", "abfss://a.dfs.core.windows.net/p", false),
            ("abfss://c@@a.example/p", "abfss://c@@a.example/p", false),
            ("gs://bucket/a", "gs://bucket", true),
            ("s3://bucket/a@b", "s3://bucket", false),
            ("", "", false),
        ] {
            assert_eq!(lies_under(uri, prefix), expected, "{uri} under {prefix}");
        }
    }
}
