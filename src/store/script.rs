//! What waits to be written, so that one way to the database serves for much of it. The way
//! takes longer than most statements do: to the thread of an embedded one and back, or over
//! a network. It is gone when something is to be read or committed.
//!
//! Prepared statements are kept by their text. On SQLite it would be a new one with each
//! mixture of sizes: only statements of one size go together, one behind the other. On
//! PostgreSQL they go as one, whose parts do not see what the others write: each of other
//! tables.

use sea_orm::Value as Sql;

use super::statements::size_for;

/// A statement that writes.
#[derive(Debug)]
pub(super) struct Write<'a> {
    /// What it writes, or reads.
    pub(super) tables: &'a [&'static str],
    /// Its parameters are `?` on SQLite, `$1` and so on on PostgreSQL.
    pub(super) sql: String,
    /// For its parameters; on SQLite the same number for each row, behind those that are `shared`.
    pub(super) values: Vec<Sql>,
    pub(super) shared: usize,
    pub(super) rows: usize,
}

/// Statements, and the values of all their parameters.
#[derive(Debug, Default)]
pub(super) struct Script {
    postgres: bool,
    statements: Vec<String>,
    values: Vec<Sql>,
    /// On SQLite: how many parameters they have, and for how many rows each is.
    parameters: usize,
    size: usize,
    /// On PostgreSQL: their tables.
    tables: Vec<&'static str>,
}

impl Script {
    pub(super) fn new(postgres: bool) -> Self {
        Self { postgres, ..Self::default() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// Whether this may be sent together with what is here.
    pub(super) fn fits(&self, write: &Write<'_>) -> bool {
        if self.postgres {
            return !write.tables.iter().any(|table| self.tables.contains(table));
        }
        self.is_empty() || self.size == size_for(write.rows)
    }

    /// Adds a statement.
    pub(super) fn add(&mut self, Write { tables, sql, values, shared, rows }: Write<'_>) {
        if self.postgres {
            self.tables.extend(tables);
            self.statements.push(renumbered(&sql, self.values.len()));
        } else {
            // Those that the one before leaves open would be taken from this one.
            self.values.resize(self.parameters, Sql::BigInt(None));
            self.size = size_for(rows);
            self.parameters += shared + (values.len() - shared) / rows * self.size;
            self.statements.push(sql);
        }
        self.values.extend(values);
    }

    /// Takes all, and leaves none.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.postgres))
    }

    /// For SQLite, in a transaction that has begun or not. A lone statement is its own
    /// transaction.
    pub(super) fn into_statements(self, begun: bool, end: End<'_>) -> (String, Vec<Sql>) {
        let Self { mut statements, mut values, parameters, .. } = self;
        let is_lone = !begun && statements.len() == 1 && matches!(end, End::Commit);
        if !begun && !is_lone {
            statements.insert(0, "BEGIN IMMEDIATE".to_owned());
        }
        match end {
            End::Query { sql, values: its } => {
                values.resize(parameters, Sql::BigInt(None));
                statements.push(renumbered(sql, parameters));
                values.extend(its);
            }
            End::Commit if !is_lone => statements.push("COMMIT".to_owned()),
            End::Commit | End::Open => {}
        }
        (statements.join("; "), values)
    }

    /// As one query for PostgreSQL, and its values. It gives what is selected of `last`, a part
    /// of its own. The others stand in reverse: of parts that nobody reads, PostgreSQL begins
    /// with the last one, and all are to take their locks in one order.
    pub(super) fn into_query(self, last: Option<Last>) -> (String, Vec<Sql>) {
        let Self { statements, mut values, .. } = self;
        let parts = statements.iter().enumerate().rev();
        let mut parts: Vec<String> = parts.map(|(at, sql)| format!("w{at} AS ({sql})")).collect();
        let selected = last.map_or_else(
            || "1".to_owned(),
            |Last { sql, values: its, columns }| {
                parts.push(format!("last AS ({})", renumbered(sql, values.len())));
                values.extend(its);
                format!("{columns} FROM last")
            },
        );
        (format!("WITH {} SELECT {selected}", parts.join(", ")), values)
    }
}

/// What a query of PostgreSQL ends with.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) sql: &'static str,
    pub(super) values: Vec<Sql>,
    /// What is selected of it.
    pub(super) columns: String,
}

/// What statements for SQLite end with.
#[derive(Debug)]
pub(super) enum End<'a> {
    Open,
    Commit,
    /// It sees what they wrote.
    Query {
        sql: &'a str,
        values: Vec<Sql>,
    },
}

/// With parameters that begin behind the first `by`.
fn renumbered(sql: &str, by: usize) -> String {
    let mut pieces = sql.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
        let number: usize = piece[..digits].parse().unwrap_or_default();
        out.push('$');
        out.push_str(&(number + by).to_string());
        out.push_str(&piece[digits..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: i64) -> Vec<Sql> {
        vec![number.into()]
    }

    fn write(sql: &str, values: Vec<Sql>, rows: usize) -> Write<'static> {
        Write { tables: &[], sql: sql.to_owned(), values, shared: 0, rows }
    }

    #[test]
    fn what_a_statement_leaves_open_is_not_taken_from_the_next() {
        let mut script = Script::new(false);
        script.add(write("A (?, ?, ?, ?)", [row(1), row(2), row(3)].concat(), 3));
        let other = write("B (?, ?, ?, ?)", [row(5), row(6), row(7), row(8)].concat(), 4);
        let small = write("C (?)", row(9), 1);
        assert!(script.fits(&other) && !script.fits(&small));
        script.add(other);
        let none = vec![Sql::BigInt(None)];
        let values = [row(1), row(2), row(3), none, row(5), row(6), row(7), row(8)].concat();
        let sql = "BEGIN IMMEDIATE; A (?, ?, ?, ?); B (?, ?, ?, ?); COMMIT";
        let whole = script.take().into_statements(false, End::Commit);
        assert_eq!(whole, (sql.to_owned(), values));
        assert!(script.is_empty() && script.fits(&small));
    }

    #[test]
    fn what_is_for_all_rows_is_there_once() {
        let mut script = Script::new(false);
        let shared = [row(9), row(1), row(2), row(3)].concat();
        script.add(Write { shared: 1, ..write("A ? (?, ?, ?, ?)", shared, 3) });
        script.add(write("B (?, ?, ?, ?)", [row(5), row(6), row(7)].concat(), 3));
        let none = vec![Sql::BigInt(None)];
        let values = [row(9), row(1), row(2), row(3), none, row(5), row(6), row(7)].concat();
        let sql = "BEGIN IMMEDIATE; A ? (?, ?, ?, ?); B (?, ?, ?, ?); COMMIT";
        assert_eq!(script.into_statements(false, End::Commit), (sql.to_owned(), values));
    }

    #[test]
    fn a_lone_statement_is_its_own_transaction() {
        let lone = || {
            let mut script = Script::new(false);
            script.add(write("A (?)", row(1), 1));
            script
        };
        assert_eq!(lone().into_statements(false, End::Commit).0, "A (?)");
        assert_eq!(lone().into_statements(true, End::Commit).0, "A (?); COMMIT");
        assert_eq!(lone().into_statements(false, End::Open).0, "BEGIN IMMEDIATE; A (?)");
        assert_eq!(Script::new(false).into_statements(true, End::Commit).0, "COMMIT");
    }

    #[test]
    fn a_query_has_the_parameters_behind_all_others() {
        let mut script = Script::new(false);
        script.add(write("A (?, ?, ?, ?)", [row(1), row(2), row(3)].concat(), 3));
        let end = End::Query { sql: "Q ($2, $1)", values: [row(8), row(9)].concat() };
        let none = vec![Sql::BigInt(None)];
        let values = [row(1), row(2), row(3), none, row(8), row(9)].concat();
        let sql = "BEGIN IMMEDIATE; A (?, ?, ?, ?); Q ($6, $5)";
        assert_eq!(script.into_statements(false, end), (sql.to_owned(), values));
    }

    #[test]
    fn what_writes_other_tables_goes_as_one_query() {
        let mut script = Script::new(true);
        let write = |tables, sql: &str, number| Write {
            tables,
            sql: sql.to_owned(),
            values: row(number),
            shared: 0,
            rows: 1,
        };
        script.add(write(&["a"], "A ($1, $1)", 1));
        assert!(!script.fits(&write(&["b", "a"], "B ($1)", 2)));
        let other = write(&["b"], "B ($1)", 2);
        assert!(script.fits(&other));
        script.add(other);
        let last = Last { sql: "L ($1)", values: row(3), columns: "x".to_owned() };
        let sql = "WITH w1 AS (B ($2)), w0 AS (A ($1, $1)), last AS (L ($3)) SELECT x FROM last";
        let values = [row(1), row(2), row(3)].concat();
        assert_eq!(script.into_query(Some(last)), (sql.to_owned(), values));
    }
}
