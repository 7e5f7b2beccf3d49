//! No type that travels up has a field of free text: what may leave is enums, integers, ids and hashes (SECURITY §3.7).

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::{assert_none, read, rust_files};

/// Where the walk starts: everything the agent can say.
const ROOTS: &[&str] = &["Up", "EnrolUp"];
/// Newtypes over text that check what they hold; the only strings allowed.
const CHECKED_TEXT: &[&str] = &[
    "AgentId",
    "ConnectionId",
    "GroupId",
    "JobId",
    "SessionId",
    "DestinationId",
    "TokenId",
    "SubjectId",
    "PackageDigest",
    "TableLabel",
    "Hash",
    "Hex16",
    "Hex32",
    "Hex64",
];

#[derive(Default)]
struct Types {
    fields: BTreeMap<String, BTreeSet<String>>,
}

impl<'ast> Visit<'ast> for Types {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.note(&item.ident, item.fields.iter());
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.note(&item.ident, item.variants.iter().flat_map(|variant| variant.fields.iter()));
    }
}

impl Types {
    fn note<'a>(&mut self, name: &syn::Ident, fields: impl Iterator<Item = &'a syn::Field>) {
        let mut names = Names::default();
        for field in fields {
            names.visit_type(&field.ty);
        }
        self.fields.entry(name.to_string()).or_default().extend(names.0);
    }
}

/// Every identifier inside a type: `Vec<Option<JobId>>` gives Vec, Option, JobId.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        self.0.insert(segment.ident.to_string());
        visit::visit_path_segment(self, segment);
    }
}

#[test]
fn nothing_upward_is_free_text() {
    let mut types = Types::default();
    for path in rust_files().iter().filter(|path| path.starts_with("protocol/src")) {
        types.visit_file(&syn::parse_file(&read(path)).expect("protocol parses"));
    }
    let mut offences = Vec::new();
    let (mut seen, mut open) = (BTreeSet::new(), ROOTS.iter().map(ToString::to_string).collect::<Vec<_>>());
    for root in ROOTS {
        assert!(types.fields.contains_key(*root), "protocol has no type {root}: the walk would prove nothing");
    }
    while let Some(name) = open.pop() {
        if CHECKED_TEXT.contains(&name.as_str()) || !seen.insert(name.clone()) {
            continue;
        }
        for inner in types.fields.get(&name).into_iter().flatten() {
            if ["String", "str", "Value", "RawValue", "Cow"].contains(&inner.as_str()) {
                offences.push(format!("{name} holds {inner}"));
            }
            open.push(inner.clone());
        }
    }
    assert!(seen.len() > 5, "the walk saw only {seen:?}");
    assert_none("an upward field is an enum, a number, an id or a hash", &offences);
}
