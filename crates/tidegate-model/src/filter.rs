//! Which tables belong to a migration: globs on `schema.name`.

use crate::{Problem, TableName};

const BAD_PATTERN: &str = "PG070";

/// Include and exclude globs. `*` stands for any characters, `?` for one, a backslash takes the next character as it
/// is. A pattern without a dot is about the table's name in any schema. Names are compared as the catalog stores them.
#[derive(Clone, Debug)]
pub struct TableFilter {
    include: Vec<Glob>,
    exclude: Vec<Glob>,
    state_schema: String,
}

impl TableFilter {
    /// Makes a filter. Nothing to include means every table; the state schema is never included.
    pub fn new(include: &[String], exclude: &[String], state_schema: &str) -> Result<TableFilter, Problem> {
        let parse = |patterns: &[String]| patterns.iter().map(|text| Glob::parse(text)).collect::<Result<Vec<_>, _>>();
        Ok(TableFilter { include: parse(include)?, exclude: parse(exclude)?, state_schema: state_schema.to_owned() })
    }

    /// Returns the schema that holds Tidegate's own tables.
    pub fn state_schema(&self) -> &str {
        &self.state_schema
    }

    /// Returns whether a table belongs to the migration. `ancestors` are the partitioned tables above it: a pattern
    /// that names one of them means all its partitions.
    pub fn matches(&self, table: &TableName, ancestors: &[TableName]) -> bool {
        let named_by = |globs: &[Glob]| {
            globs.iter().any(|glob| std::iter::once(table).chain(ancestors).any(|name| glob.matches(name)))
        };
        *table.schema != *self.state_schema
            && (self.include.is_empty() || named_by(&self.include))
            && !named_by(&self.exclude)
    }

    /// Returns the include patterns that match none of `tables`: most often a slip of the pen.
    pub fn unmatched<'a>(&'a self, tables: &'a [(TableName, Vec<TableName>)]) -> impl Iterator<Item = &'a str> {
        let names_one = |glob: &Glob| {
            tables.iter().any(|(table, ancestors)| std::iter::once(table).chain(ancestors).any(|n| glob.matches(n)))
        };
        self.include.iter().filter(move |glob| !names_one(glob)).map(|glob| glob.text.as_str())
    }
}

#[derive(Clone, Debug)]
struct Glob {
    text: String,
    parts: Vec<Part>,
    qualified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Is(char),
}

impl Glob {
    fn parse(text: &str) -> Result<Glob, Problem> {
        let mut parts = Vec::new();
        let mut qualified = false;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Is(chars.next().ok_or_else(|| bad_pattern(text, "it ends with a backslash"))?),
                _ => Part::Is(c),
            });
            qualified |= c == '.';
        }
        if parts.is_empty() {
            return Err(bad_pattern(text, "it is empty"));
        }
        Ok(Glob { text: text.to_owned(), parts, qualified })
    }

    fn matches(&self, table: &TableName) -> bool {
        let text: Vec<char> =
            if self.qualified { table.to_string().chars().collect() } else { table.name.chars().collect() };
        matches(&self.parts, &text)
    }
}

/// Matches with one point to come back to: after a `*` only its own last try can matter, so time stays quadratic.
fn matches(parts: &[Part], text: &[char]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Any) => {
                star = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (part, at) = (part + 1, at + 1),
            Some(Part::Is(c)) if *c == text[at] => (part, at) = (part + 1, at + 1),
            _ => match star {
                Some((star_part, star_at)) => {
                    star = Some((star_part, star_at + 1));
                    (part, at) = (star_part + 1, star_at + 1);
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(|rest| *rest == Part::Any)
}

fn bad_pattern(text: &str, why: &str) -> Problem {
    Problem::definite(
        BAD_PATTERN,
        format!("\"{text}\" is not a table pattern"),
        why,
        "write schema.table with * for any characters and ? for one, for example --tables 'public.*'",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> TableFilter {
        let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        TableFilter::new(&own(include), &own(exclude), "tidegate").unwrap()
    }

    fn takes(filter: &TableFilter, schema: &str, name: &str) -> bool {
        filter.matches(&TableName::new(schema, name), &[])
    }

    #[test]
    fn globs_match_whole_qualified_names() {
        for (glob, schema, name, expected) in [
            ("public.*", "public", "orders", true),
            ("public.*", "public2", "orders", false),
            ("public.ord?rs", "public", "orders", true),
            ("public.ord?rs", "public", "ordrs", false),
            ("orders", "public", "orders", true),
            ("orders", "public", "orders_old", false),
            ("*_old", "archive", "orders_old", true),
            ("*", "any", "thing", true),
            ("*.*", "any", "thing", true),
            ("Public.Orders", "public", "orders", false),
            ("a*b*c.x", "aXbYc", "x", true),
            ("a*b*c.x", "aXbY", "x", false),
            (r"public.\*", "public", "*", true),
            (r"public.\*", "public", "orders", false),
            ("public.größe", "public", "größe", true),
        ] {
            assert_eq!(takes(&filter(&[glob], &[]), schema, name), expected, "{glob} on {schema}.{name}");
        }
    }

    #[test]
    fn nothing_to_include_means_all_but_the_state_schema() {
        let all = filter(&[], &[]);
        assert!(takes(&all, "public", "orders"));
        assert!(!takes(&all, "tidegate", "checkpoint"));
        assert!(!takes(&filter(&["tidegate.*"], &[]), "tidegate", "checkpoint"));
    }

    #[test]
    fn excluding_wins() {
        let filter = filter(&["public.*"], &["*.audit_*"]);
        assert!(takes(&filter, "public", "orders") && !takes(&filter, "public", "audit_2024"));
    }

    #[test]
    fn a_pattern_that_names_a_partitioned_table_means_its_partitions() {
        let filter = filter(&["public.orders"], &[]);
        let root = [TableName::new("public", "orders")];
        assert!(filter.matches(&TableName::new("parts", "orders_2024"), &root));
        assert!(!filter.matches(&TableName::new("parts", "orders_2024"), &[]));
    }

    #[test]
    fn patterns_that_match_nothing_are_named() {
        let filter = filter(&["public.orders", "public.oders"], &[]);
        let tables = [(TableName::new("public", "orders"), vec![])];
        assert_eq!(filter.unmatched(&tables).collect::<Vec<_>>(), ["public.oders"]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in ["", "public.\\"] {
            assert!(TableFilter::new(&[bad.to_owned()], &[], "tidegate").is_err(), "{bad:?} was taken");
        }
    }
}
