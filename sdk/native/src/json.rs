//! `json.dumps` for values that need no Python code: exact dicts, lists, tuples and scalars give the same characters,
//! without the interpreter and without a lock in danger. Everything else is left to `json.dumps` itself.

use std::fmt::Write;

use inshore_columnar::builder::ROW_BYTES_MAX;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::borrowed::{self, Item};
use crate::value::exactly;

/// Deeper values go the slow way, where Python guards the stack and notices circles.
const DEPTH_MAX: u32 = 32;
/// Bytes that JSON text holds as they are: printable ASCII, but for the quote and the backslash.
const STAYS: [bool; 256] = {
    let mut stays = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        stays[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    stays
};
/// Why writing cannot fail.
const WRITTEN: &str = "a String takes everything";

/// Appends the value's JSON. False when that takes Python code; `out` then holds a part of it.
#[inline]
pub(crate) fn write(out: &mut String, item: &Bound<'_, PyAny>) -> bool {
    write_at(out, item, 0).is_some()
}

/// What most values are stands in the loops that call this.
#[inline]
fn write_at(out: &mut String, item: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
    if let Some(text) = exactly::<PyString>(item) {
        write_text(out, text.to_str().ok()?)
    } else if let Some(number) = exactly::<PyInt>(item) {
        out.push_str(itoa::Buffer::new().format(borrowed::whole(number)?));
        Some(())
    } else {
        write_other(out, item, depth)
    }
}

#[inline(never)]
fn write_other(out: &mut String, item: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
    if let Some(dict) = exactly::<PyDict>(item) {
        write_dict(out, dict, depth)?;
    } else if let Some(list) = exactly::<PyList>(item) {
        write_items(out, borrowed::items(list), depth)?;
    } else if let Some(number) = exactly::<PyFloat>(item) {
        write_float(out, number.value());
    } else if item.is_none() {
        out.push_str("null");
    } else if let Some(flag) = exactly::<PyBool>(item) {
        out.push_str(if flag.is_true() { "true" } else { "false" });
    } else if let Some(tuple) = exactly::<PyTuple>(item) {
        write_items(out, borrowed::members(tuple), depth)?;
    } else {
        return None;
    }
    Some(())
}

/// Keys that are not exactly str have rules of their own: numbers become text, the rest is an error.
fn write_dict(out: &mut String, dict: &Bound<'_, PyDict>, depth: u32) -> Option<()> {
    if depth == DEPTH_MAX {
        return None;
    }
    let mut opening = "{\"";
    for (key, value) in borrowed::entries(dict) {
        out.push_str(opening);
        opening = ", \"";
        write_characters(out, exactly::<PyString>(&key)?.to_str().ok()?)?;
        out.push_str("\": ");
        write_at(out, &value, depth + 1)?;
    }
    out.push_str(if opening == "{\"" { "{}" } else { "}" });
    Some(())
}

fn write_items<'a, 'py: 'a>(out: &mut String, items: impl Iterator<Item = Item<'a, 'py>>, depth: u32) -> Option<()> {
    if depth == DEPTH_MAX {
        return None;
    }
    let mut opening = "[";
    for item in items {
        out.push_str(opening);
        opening = ", ";
        write_at(out, &item, depth + 1)?;
    }
    out.push_str(if opening == "[" { "[]" } else { "]" });
    Some(())
}

#[inline]
fn write_text(out: &mut String, text: &str) -> Option<()> {
    out.push('"');
    write_characters(out, text)?;
    out.push('"');
    Some(())
}

/// What no row holds is not written either. What does not stay is escaped in UTF-16.
#[inline]
fn write_characters(out: &mut String, text: &str) -> Option<()> {
    if out.len() + text.len() > ROW_BYTES_MAX {
        return None;
    }
    if text.bytes().all(|byte| STAYS[usize::from(byte)]) {
        out.push_str(text);
    } else {
        write_escaped(out, text);
    }
    Some(())
}

#[inline(never)]
fn write_escaped(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            ' '..='~' if character != '"' && character != '\\' => out.push(character),
            _ => escape(out, character),
        }
    }
}

#[cold]
fn escape(out: &mut String, character: char) {
    let short = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect(WRITTEN);
            }
            return;
        }
    };
    out.push_str(short);
}

/// `float.__repr__`: the shortest digits that read back, with an exponent where it is small or large.
fn write_float(out: &mut String, number: f64) {
    if !number.is_finite() {
        out.push_str(if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    }
    let start = out.len();
    write!(out, "{number:?}").expect(WRITTEN);
    let Some(e) = out.get(start..).and_then(|text| text.find('e')) else { return };
    let exponent = out.split_off(start + e + 1);
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent.as_str()), |digits| ('-', digits));
    write!(out, "{sign}{digits:0>2}").expect(WRITTEN);
}
