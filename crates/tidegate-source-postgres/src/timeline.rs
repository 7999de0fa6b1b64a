//! Timelines: the branches of one cluster's history. Each promotion or recovery to a point begins a new one.

use tidegate_model::Lsn;

/// The ancestors of a timeline, as `TIMELINE_HISTORY` gives them (PostgreSQL manual, "Streaming Replication Protocol";
/// format of the file: `timeline.c`, one line `parent TLI, switch point, reason` for each ancestor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ancestry {
    left: Vec<(u32, Lsn)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history is neither an ancestor nor a comment")]
pub(crate) struct InvalidAncestry {
    pub(crate) line: usize,
}

impl Ancestry {
    pub(crate) fn parse(content: &str) -> Result<Ancestry, InvalidAncestry> {
        let mut left = Vec::new();
        for (index, line) in content.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let ancestor = words.next().and_then(|word| word.parse::<u32>().ok());
            let switch = words.next().and_then(|word| word.parse::<Lsn>().ok());
            match (ancestor, switch) {
                (Some(ancestor), Some(switch)) => left.push((ancestor, switch)),
                _ => return Err(InvalidAncestry { line: index + 1 }),
            }
        }
        Ok(Ancestry { left })
    }

    /// Returns where `timeline` was left for the next one: what it holds after that point is not part of this history.
    pub(crate) fn left_at(&self, timeline: u32) -> Option<Lsn> {
        self.left.iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, switch)| *switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ancestor_is_found_with_its_switch_point() {
        let content =
            "1\t0/3000148\tno recovery target specified\n\n# kept by hand\n2\t1/A0000000\tbefore 2026-01-01\n";
        let ancestry = Ancestry::parse(content).unwrap();
        assert_eq!(ancestry.left_at(1), Some(Lsn(0x300_0148)));
        assert_eq!(ancestry.left_at(2), Some(Lsn(0x1_A000_0000)));
        assert_eq!(ancestry.left_at(3), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_over() {
        for bad in ["1", "x\t0/1\treason", "1\tnowhere\treason", "1\t0/1\tr\n2"] {
            assert!(Ancestry::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_empty_history_has_no_ancestors() {
        assert_eq!(Ancestry::parse("").unwrap().left_at(1), None);
    }
}
