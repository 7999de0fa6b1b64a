//! Every code that a user can read has a page, and every page has a code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a code begins with. A new part of the program adds its letters here.
const AREAS: [&str; 17] =
    ["AP", "CF", "CK", "CN", "CP", "CR", "CT", "FI", "FN", "MI", "PG", "PL", "RP", "SQ", "ST", "TN", "VF"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_code(text: &str) -> bool {
    text.len() == 5 && AREAS.contains(&&text[..2]) && text[2..].bytes().all(|b| b.is_ascii_digit())
}

/// Collects the string literals of the sources that are codes.
fn codes_in(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_in(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            codes.extend(text.split('"').filter(|part| part.is_ascii() && is_code(part)).map(str::to_owned));
        }
    }
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let mut codes = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        codes_in(&entry.unwrap().path().join("src"), &mut codes);
    }
    let pages: BTreeSet<String> = fs::read_dir(root().join("docs/errors"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(codes.len() > 50, "only {} codes found: the search is broken", codes.len());
    assert_eq!(codes.difference(&pages).collect::<Vec<_>>(), Vec::<&String>::new(), "codes without a page");
    assert_eq!(pages.difference(&codes).collect::<Vec<_>>(), Vec::<&String>::new(), "pages without a code");
}

#[test]
fn every_page_begins_with_its_code_and_says_what_to_do() {
    for entry in fs::read_dir(root().join("docs/errors")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let code = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(text.starts_with(&format!("# {code}")), "{code} does not begin with its code");
        assert!(text.to_lowercase().contains("what to do"), "{code} does not say what to do");
    }
}
