//! One spelling per JSON value: keys sorted, no space between tokens, scalars as they were written (`NaN` too, and
//! digits that no float holds). Text that is not JSON stays as it is.

use std::borrow::Cow;

/// Deeper values keep their text.
const DEPTH_MAX: usize = 256;

pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    let mut parser = Parser { text, at: 0 };
    let mut out = String::with_capacity(text.len());
    let parsed = parser.value(&mut out, 0);
    parser.skip_space();
    if parsed.is_some() && parser.at == text.len() { Cow::Owned(out) } else { Cow::Borrowed(text) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            b'{' => self.object(out, depth),
            b'[' => self.array(out, depth),
            b'"' => {
                out.push_str(self.string()?);
                Some(())
            }
            _ => self.scalar(out),
        }
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.take(b'{')?;
        let mut members: Vec<(&str, String)> = Vec::new();
        while self.take(b'}').is_none() {
            if !members.is_empty() {
                self.take(b',')?;
                self.skip_space();
            }
            let key = self.string()?;
            self.take(b':')?;
            let mut value = String::new();
            self.value(&mut value, depth + 1)?;
            members.push((key, value));
        }
        members.sort_by_key(|(key, _)| *key);
        out.push('{');
        for (index, (key, value)) in members.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(key);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Some(())
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.take(b'[')?;
        out.push('[');
        let mut first = true;
        while self.take(b']').is_none() {
            if !first {
                self.take(b',')?;
                out.push(',');
            }
            first = false;
            self.value(out, depth + 1)?;
        }
        out.push(']');
        Some(())
    }

    /// The literal with its quotes and escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.skip_space();
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    fn scalar(&mut self, out: &mut String) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let token = self.text.get(start..self.at).filter(|token| !token.is_empty())?;
        out.push_str(token);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_value() {
        let cases = [
            (r#"{"b": 1, "a": [1, 2.50, NaN, "x, y"]}"#, r#"{"a":[1,2.50,NaN,"x, y"],"b":1}"#),
            (r#"{ "a" : { "d":null , "c":"\"}" } }"#, r#"{"a":{"c":"\"}","d":null}}"#),
            ("[]", "[]"),
            ("{}", "{}"),
            (" 123456789012345678901234567890 ", "123456789012345678901234567890"),
            ("[1,,2]", "[1,,2]"),
            ("{\"a\"}", "{\"a\"}"),
            ("[1] 2", "[1] 2"),
            ("\"open", "\"open"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_text_is_left_alone() {
        let deep = format!("{}{}", "[ ".repeat(DEPTH_MAX + 2), "]".repeat(DEPTH_MAX + 2));
        assert_eq!(canonical(&deep), deep);
    }
}
