//! `make crash` and `make crash-cockroach`: kill the engine and both servers again and again under traffic. Arguments
//! are the directions; without any it is from PostgreSQL to PostgreSQL.

use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::crash::{self, Direction, Plan};

fn main() {
    let asked: Result<Vec<Direction>, String> = std::env::args().skip(1).map(|text| text.parse()).collect();
    let directions = match asked {
        Ok(directions) if directions.is_empty() => vec![Direction::PostgresToPostgres],
        Ok(directions) => directions,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    for direction in directions {
        println!("--- {direction}");
        println!("{}", crash::run(&plan(direction)));
    }
}

fn plan(direction: Direction) -> Plan {
    // On CockroachDB transfers are statements of their own, and every transaction waits for its turn to commit.
    let (scale, rate) = if direction.has_cockroach() { (2, 150) } else { (10, 400) };
    Plan {
        direction,
        scale,
        clients: 4,
        rate,
        kills_in_copy: 12,
        kills_in_flight: 32,
        kills_anywhere: 8,
        source_kills: 5,
        target_kills: 5,
        samples_min: match direction {
            Direction::PostgresToPostgres => 0,
            Direction::PostgresToCockroach => 100,
            Direction::CockroachToPostgres => 1_000,
        },
        seed: seed(),
    }
}
