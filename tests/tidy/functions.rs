//! No function is longer than a screen and a half.

use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{assert_none, read, rust_files};

const LINES_MAX: usize = 70;

struct Functions<'a> {
    path: &'a Path,
    offences: Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        if lines > LINES_MAX {
            let line = signature.span().start().line;
            let row =
                format!("{}:{line}: fn {} has {lines} lines (limit {LINES_MAX})", self.path.display(), signature.ident);
            self.offences.push(row);
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn every_function_fits() {
    let mut offences = Vec::new();
    for path in rust_files() {
        let file = syn::parse_file(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut functions = Functions { path: &path, offences: Vec::new() };
        functions.visit_file(&file);
        offences.extend(functions.offences);
    }
    assert_none("branch in the parent, compute in the leaf", &offences);
}
