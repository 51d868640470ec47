//! `--output`: the forms that data is printed in.

use clap::ValueEnum;

use super::{exit::Fault, json, out, table, tables::Row, times::Times};

/// How data is printed.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// How it is printed; for people, where nothing is said.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Times in UTC, as RFC 3339 has them, not as "3 min ago".
    #[arg(long)]
    utc: bool,
}

/// A form of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One row each
    Table,
    /// One row each, with more columns
    Wide,
    /// The protobuf JSON mapping, as grpcurl prints it
    Json,
    /// The same as documents of YAML
    Yaml,
    /// Names alone, one a line
    Name,
}

impl OutputArgs {
    pub(super) fn format(&self) -> Option<Format> {
        if self.json { Some(Format::Json) } else { self.output }
    }

    /// Whether rows below a head are asked for.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.format(), Some(Format::Table | Format::Wide))
    }

    pub(super) fn times(&self) -> Times {
        Times::new(self.utc)
    }

    /// Prints one thing, for people by `words`.
    pub(super) fn one<R: Row>(
        &self,
        item: &R,
        words: impl FnOnce(&R, &Times) -> String,
    ) -> Result<(), Fault> {
        match self.format() {
            None => out::line(words(item, &self.times())),
            Some(Format::Json) => out::line(json::pretty(item)?),
            Some(_) => self.page(std::slice::from_ref(item), true),
        }
    }

    /// Prints many, a table where nothing else is asked for: a page of them, with the
    /// head of the table where it is the first.
    pub(super) fn page<R: Row>(&self, items: &[R], first: bool) -> Result<(), Fault> {
        let format = self.format().unwrap_or(Format::Table);
        match format {
            Format::Json => items.iter().try_for_each(|item| out::line(json::compact(item)?)),
            Format::Yaml => items.iter().try_for_each(|item| out::line(json::yaml(item)?)),
            Format::Name => items.iter().try_for_each(|item| out::line(item.name())),
            Format::Table | Format::Wide => {
                let columns = if format == Format::Wide { R::HEADS.len() } else { R::NARROW };
                let times = self.times();
                let rows: Vec<_> = items
                    .iter()
                    .map(|item| item.cells(&times).into_iter().take(columns).collect())
                    .collect();
                let room = out::size().map(|(columns, _)| columns);
                // Who asks for all columns wants all of them.
                let room = room.filter(|_| format == Format::Table);
                let lines = table::lines(&R::HEADS[..columns], &rows, room);
                lines.iter().skip(usize::from(!first)).try_for_each(out::line)
            }
        }
    }
}
