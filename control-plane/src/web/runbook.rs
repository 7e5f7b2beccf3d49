//! The page of one failure code: docs/errors, compiled in, so that a failed sync's page leads to what to do without
//! leaving the control plane. Reads only the Markdown that those pages use.

use askama::Template;
use inshore_protocol::Code;

use super::words;

macro_rules! runbooks {
    ($($code:literal)*) => {
        &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*]
    };
}

const RUNBOOKS: &[(&str, &str)] = runbooks! {
    "AGT-001" "AGT-002" "AGT-003" "AGT-004" "AGT-005" "CFG-001" "CFG-002" "CFG-003" "CFG-004" "CFG-005"
    "CFG-006" "CFG-007" "CHN-001" "CHN-002" "CHN-003" "CHN-004" "CHN-005" "CHN-006" "CPL-001" "CPL-002"
    "CPL-003" "CPL-004" "CPL-005" "DST-001" "DST-002" "DST-003" "DST-004" "DST-005" "DST-006" "DST-007" "DST-008" "DST-009"
    "DST-010" "DST-011" "DST-012" "DST-013" "DST-014" "DST-015" "ENR-001" "ENR-002" "ENR-003" "ENR-004" "ENR-005" "ENR-006" "ENR-007" "ENR-008" "PKG-001"
    "PKG-002" "PKG-003" "PKG-004" "PKG-005" "PKG-006" "PKG-007" "PKG-008" "PKG-009" "PKG-010" "PKG-011" "PKG-012" "PKG-013" "PKG-014" "POL-001" "POL-002"
    "POL-003" "POL-004" "POL-005" "POL-006" "SDK-001" "SDK-002" "SDK-003" "SDK-004" "SDK-005" "SDK-006" "SDK-007" "SDK-008"
    "SDK-009" "SDK-010" "SDK-011" "SDK-012" "SDK-013" "SDK-014" "SDK-015" "SDK-016" "SDK-017" "SDK-018" "SDK-019" "SDK-020"
    "SDK-021" "SDK-022" "SDK-023"
    "DEV-001" "DEV-002" "DEV-003" "DEV-004" "DEV-005" "DEV-006" "DEV-007" "DEV-008" "DEV-009" "DEV-010" "DEV-011" "DEV-012" "DEV-013"
};

#[derive(Debug, Template)]
#[template(path = "runbook.html")]
pub(super) struct Runbook {
    code: &'static str,
    slug: String,
    message: Vec<Span>,
    blocks: Vec<Block>,
}

#[derive(Debug, PartialEq, Eq)]
enum Block {
    Heading(String),
    Paragraph(Vec<Span>),
    List(Vec<Vec<Span>>),
    Verbatim(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Span {
    text: String,
    code: bool,
}

pub(super) fn runbook(code: &str) -> Option<Runbook> {
    let (code, text) = RUNBOOKS.iter().find(|(known, _)| *known == code)?;
    let slug = Code::from_text(code).map_or(String::new(), |code| code.slug().replace('_', " ").to_lowercase());
    Some(Runbook { code, slug, message: spans(words(code)), blocks: blocks(text) })
}

/// Headings, paragraphs, flat lists and fenced blocks; the title is left out.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut paragraph = String::new();
    let mut items: Vec<String> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let fenced = line.trim_start().starts_with("```");
        if fenced || line.trim().is_empty() || line.starts_with('#') {
            flush(&mut blocks, &mut paragraph, &mut items);
        }
        if fenced {
            let body: Vec<_> = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
            blocks.push(Block::Verbatim(body.join("\n")));
        } else if let Some(heading) = line.strip_prefix("## ") {
            blocks.push(Block::Heading(heading.to_owned()));
        } else if line.starts_with("# ") {
        } else if let Some(item) = line.trim_start().strip_prefix("- ") {
            items.push(item.to_owned());
        } else {
            let open = items.last_mut().unwrap_or(&mut paragraph);
            if !open.is_empty() {
                open.push(' ');
            }
            open.push_str(line.trim());
        }
    }
    flush(&mut blocks, &mut paragraph, &mut items);
    blocks
}

fn flush(blocks: &mut Vec<Block>, paragraph: &mut String, items: &mut Vec<String>) {
    let text = std::mem::take(paragraph);
    if !text.trim().is_empty() {
        blocks.push(Block::Paragraph(spans(&text)));
    }
    if !items.is_empty() {
        blocks.push(Block::List(std::mem::take(items).iter().map(|item| spans(item)).collect()));
    }
}

/// Code is what stands between backticks; emphasis stays plain.
fn spans(text: &str) -> Vec<Span> {
    let spans = text.split('`').enumerate().map(|(index, part)| {
        let code = index % 2 == 1;
        Span { text: if code { part.to_owned() } else { part.replace("**", "") }, code }
    });
    spans.filter(|span| !span.text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        for code in Code::all().iter().filter(|code| **code != Code::Unknown) {
            let page = runbook(code.text()).unwrap_or_else(|| panic!("{} is missing in RUNBOOKS", code.text()));
            let html = page.render().expect("renders");
            assert!(html.contains("What to do") && html.contains("<li>"), "{}", code.text());
            assert!(!html.contains('`'), "{}: an open code span", code.text());
        }
        assert!(runbook("../secret").is_none());
    }

    #[test]
    fn markdown_of_these_pages_is_read() {
        let plain = |text: &str| Span { text: text.to_owned(), code: false };
        let read = blocks("# T\n\n## H\nOne\ntwo `x`.\n- a\n  b\n- c\n\n```\nraw\n```\n");
        let expected = [
            Block::Heading("H".to_owned()),
            Block::Paragraph(vec![plain("One two "), Span { text: "x".to_owned(), code: true }, plain(".")]),
            Block::List(vec![vec![plain("a b")], vec![plain("c")]]),
            Block::Verbatim("raw".to_owned()),
        ];
        assert_eq!(read, expected);
    }
}
