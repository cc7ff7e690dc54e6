//! Documents say which tests show what they promise: each of those tests must be there.

use std::{collections::BTreeSet, fs, path::Path};

/// The names of all functions below a folder.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            functions(&path, names);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after = text.split("fn ").skip(1);
            names.extend(after.filter_map(|rest| Some(rest.split_once(['(', '<'])?.0.to_owned())));
        }
    }
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut known = BTreeSet::new();
    functions(root, &mut known);
    let text = fs::read_to_string(root.join("docs/coming-from.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_suffix("` |")?.rsplit_once("| `"));
    let named: Vec<_> = rows.map(|(_, test)| test).collect();
    assert!(named.len() > 50, "the last column names a test in each row: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|test| !known.contains(*test)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
