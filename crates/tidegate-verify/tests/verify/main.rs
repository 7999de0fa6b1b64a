//! Comparisons of real databases.

mod cockroach;
mod fixture;
mod isolation;
mod kinds;
mod problems;
mod repairs;
mod shapes;
