//! Lists cut to one element.

use super::{NAME, NUMBER};

/// Keywords that may stand in front of a parenthesis or of the first element of a list.
const KEYWORDS: [&str; 52] = [
    "all",
    "and",
    "any",
    "array",
    "as",
    "by",
    "case",
    "check",
    "conflict",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "filter",
    "for",
    "from",
    "group",
    "having",
    "in",
    "into",
    "is",
    "join",
    "key",
    "like",
    "limit",
    "materialized",
    "not",
    "nothing",
    "on",
    "only",
    "or",
    "order",
    "over",
    "references",
    "returning",
    "select",
    "set",
    "storing",
    "table",
    "then",
    "union",
    "unique",
    "update",
    "using",
    "values",
    "when",
    "where",
    "with",
    "cascade",
    "schema",
];

pub fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// Longer elements are not looked for.
const ELEMENT_WORDS_MAX: usize = 80;
pub const DOTS: &str = "...";

/// Puts one element in place of equal ones that follow each other.
pub fn collapse(words: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).map(String::as_str);
        out.push(word.clone());
        if ends(next) {
            while collapse_last(&mut out) {}
            dot_alone(&mut out, next);
        }
    }
    out
}

/// Returns whether an element is over before this word.
fn ends(next: Option<&str>) -> bool {
    next.is_none_or(|next| matches!(next, "," | ")" | "]") || is_keyword(next))
}

/// `X, X` and `X..., X` become `X...`.
fn collapse_last(out: &mut Vec<String>) -> bool {
    for length in 1..=ELEMENT_WORDS_MAX.min(out.len() / 2) {
        let start = out.len() - length;
        let Some(separator) = start.checked_sub(1).filter(|at| matches!(out[*at].as_str(), "," | "and")) else {
            continue;
        };
        let left_end = if separator > 0 && out[separator - 1] == DOTS { separator - 1 } else { separator };
        let Some(left) = left_end.checked_sub(length) else { continue };
        let begins = left == 0 || matches!(out[left - 1].as_str(), "(" | "[" | ",") || is_keyword(&out[left - 1]);
        if begins && out[left..left_end] == out[start..] && balanced(&out[start..]) {
            out.truncate(left_end);
            out.push(DOTS.to_owned());
            return true;
        }
    }
    false
}

fn balanced(words: &[String]) -> bool {
    let mut depth = 0i32;
    for word in words {
        match word.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// One name or parameter in parentheses may as well be many; so may one assignment.
fn dot_alone(out: &mut Vec<String>, next: Option<&str>) {
    let ends_with = |tail: &[&str]| {
        out.len() >= tail.len() && out[out.len() - tail.len()..].iter().zip(tail).all(|(word, wanted)| word == wanted)
    };
    let single: [&[&str]; 6] = [
        &["(", NAME],
        &["(", "$"],
        &["(", "$", "::", "_"],
        &["(", "$", "::", "_", "[", "]"],
        &["(", "?", "::", "_"],
        &["in", "(", "?"],
    ];
    let numbered = out.len() >= 2 && out[out.len() - 2] == "(" && out[out.len() - 1].ends_with(NUMBER);
    let alone = next == Some(")") && (numbered || single.iter().any(|tail| ends_with(tail)));
    let (plain, cast) = (["set", NAME, "=", NAME], ["set", NAME, "=", "v", ".", "c#", "::", "_"]);
    let assignment = next != Some(",") && (ends_with(&plain) || ends_with(&cast));
    if alone || assignment {
        out.push(DOTS.to_owned());
    }
}
