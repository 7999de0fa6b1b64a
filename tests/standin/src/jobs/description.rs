//! How a job describes itself.

use crate::feed::Statement;

/// Options sorted, the statement as the engine prints it back.
pub fn of(statement: &Statement, names: &[String]) -> String {
    let targets: Vec<String> = names.iter().map(|name| format!("TABLE {name}")).collect();
    let mut options: Vec<String> = statement
        .options
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name} = '{}'", value.replace('\'', "''")),
            None => name.clone(),
        })
        .collect();
    options.sort();
    let sink = redacted(statement.sink.as_deref().unwrap_or_default());
    let with = if options.is_empty() { String::new() } else { format!(" WITH OPTIONS ({})", options.join(", ")) };
    format!("CREATE CHANGEFEED FOR {} INTO '{sink}'{with}", targets.join(", "))
}

/// A sink's address without what may be secret.
pub fn redacted(sink: &str) -> String {
    sink.split_once('?').map_or_else(|| sink.to_owned(), |(address, _)| format!("{address}?redacted"))
}

#[cfg(test)]
mod tests {
    use crate::feed::parse;

    #[test]
    fn options_are_sorted_and_the_sink_is_redacted() {
        let sql = "CREATE CHANGEFEED FOR foo INTO 'null://?key=secret' WITH updated, envelope = wrapped";
        assert_eq!(
            super::of(&parse(sql, &[]).unwrap(), &["foo".to_owned()]),
            "CREATE CHANGEFEED FOR TABLE foo INTO 'null://?redacted' WITH OPTIONS (envelope = 'wrapped', updated)"
        );
    }
}
