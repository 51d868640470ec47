//! Rows of cells as the table `v` of a statement: one array a column on PostgreSQL, a
//! parameter for each cell on SQLite.

use sea_orm::Value as Sql;

use super::{
    cells::{Cell, ColumnType},
    statements::{most_rows, size_for},
};

/// Rows to write, each as long as the others. The first column must have no NULL. On
/// PostgreSQL no other one may have both NULLs and what stands for them: see [`ColumnType`].
#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    cells: Vec<Cell<'a>>,
    rows: usize,
}

/// Some rows of a table as a part of a statement.
pub(super) struct Rows {
    /// To stand behind FROM.
    pub(super) table: String,
    /// What stands for each column; none where there is nothing but NULL in it. All but the
    /// first, which is always one of the table's, must be named once, in their order and
    /// before FROM: they may be parameters.
    pub(super) columns: Vec<Option<String>>,
    /// Its parameters, which must be all that the statement has.
    pub(super) values: Vec<Sql>,
    /// On SQLite: how many of them, the first ones, are for all rows.
    pub(super) shared: usize,
    /// How many rows. On SQLite there may be more, of NULLs only.
    pub(super) rows: usize,
}

impl<'a> Table<'a> {
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = Cell<'a>>) {
        self.cells.extend(row);
        self.rows += 1;
    }

    /// For as few statements of as few shapes as can be.
    pub(super) fn pieces(&self, postgres: bool) -> Vec<Rows> {
        let form = if postgres { arrays } else { values };
        let width = self.cells.len() / self.rows.max(1);
        let pieces = self.cells.chunks(width.max(1) * most_rows(postgres));
        pieces.map(|cells| form(cells, &held(cells, width))).collect()
    }
}

impl<'a, R: IntoIterator<Item = Cell<'a>>> Extend<R> for Table<'a> {
    fn extend<I: IntoIterator<Item = R>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

impl<'a, R: IntoIterator<Item = Cell<'a>>> FromIterator<R> for Table<'a> {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut table = Self::default();
        table.extend(rows);
        table
    }
}

/// As many rows at least have one parameter for a column in which all have the same: each
/// value costs the server and the database something. Of fewer it would be chance what they
/// have in common, and a statement of its own for each.
const SAME_OF: usize = 16;

/// What is in a column.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    /// NULL alone.
    Nothing,
    /// The same in all rows, of which there are many.
    Same,
    /// Anything else.
    Each,
}

/// What is in the columns of some rows.
fn held(cells: &[Cell<'_>], width: usize) -> Vec<Held> {
    let (first, others) = cells.split_at(width);
    let begin = |cell: &Cell<'_>| if cell.is_null() { Held::Nothing } else { Held::Same };
    let mut held: Vec<Held> = first.iter().map(begin).collect();
    for row in others.chunks_exact(width) {
        for ((held, cell), first) in held.iter_mut().zip(row).zip(first) {
            if *held != Held::Each && cell != first {
                *held = Held::Each;
            }
        }
    }
    for (at, held) in held.iter_mut().enumerate() {
        // The first one tells rows from those that are but there to fill a size.
        if *held == Held::Same && (at == 0 || cells.len() < SAME_OF * width) {
            *held = Held::Each;
        }
    }
    held
}

/// `(VALUES (?, ?), (?, ?))`: SQLite would look a numbered parameter up by going through all
/// of them. Those that are not bound are NULL.
fn values(cells: &[Cell<'_>], held: &[Held]) -> Rows {
    let rows = cells.len() / held.len();
    let mut each = 0;
    let columns = held.iter().map(|held| match held {
        Held::Nothing => None,
        Held::Same => Some("?".to_owned()),
        Held::Each => {
            each += 1;
            Some(format!("v.column{each}"))
        }
    });
    let columns = columns.collect();
    let row = format!("({}), ", vec!["?"; each].join(", "));
    let list = row.repeat(size_for(rows));
    let mut values = Vec::with_capacity(held.len() + each * rows);
    let mut add = |row: &[Cell<'_>], which| {
        let those = row.iter().zip(held).filter(|(_, held)| **held == which);
        values.extend(those.map(|(cell, _)| Sql::from(*cell)));
        values.len()
    };
    let shared = add(&cells[..held.len()], Held::Same);
    for row in cells.chunks_exact(held.len()) {
        add(row, Held::Each);
    }
    let table = format!("(VALUES {}) AS v", list.trim_end_matches(", "));
    Rows { table, columns, values, shared, rows }
}

/// `unnest($1::bigint[], $2::text[])`.
fn arrays(cells: &[Cell<'_>], held: &[Held]) -> Rows {
    let (mut names, mut types, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns = Vec::with_capacity(held.len());
    for (at, holds) in held.iter().enumerate() {
        let ColumnType { array, name: kind, none, literal } = cells[at].column_type();
        let number = values.len() + 1;
        match holds {
            Held::Nothing => columns.push(None),
            Held::Same => {
                columns.push(Some(format!("${number}::{kind}")));
                values.push(cells[at].into());
            }
            Held::Each => {
                let name = format!("column{number}");
                let column = cells.iter().skip(at).step_by(held.len());
                let value =
                    |cell: &Cell<'_>| if cell.is_null() { none.clone() } else { (*cell).into() };
                let all = column.clone().all(|cell| !cell.is_null());
                columns.push(Some(if all {
                    format!("v.{name}")
                } else {
                    format!("nullif(v.{name}, {literal})")
                }));
                types.push(format!("${number}::{kind}[]"));
                names.push(name);
                values.push(Sql::Array(array, Some(Box::new(column.map(value).collect()))));
            }
        }
    }
    let table = format!("unnest({}) AS v({})", types.join(", "), names.join(", "));
    Rows { table, columns, values, shared: 0, rows: cells.len() / held.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: i64) -> Table<'static> {
        let row = |number: i64| {
            let odd = Some(number).filter(|number| number % 2 == 1);
            [number.into(), "kind".into(), Cell::Big(None), Cell::Big(odd)]
        };
        (1..=count).map(row).collect()
    }

    #[test]
    fn what_many_rows_have_in_common_is_one_parameter() {
        let [many] = <[Rows; 1]>::try_from(rows(17).pieces(false)).ok().expect("one statement");
        let columns = many.columns.iter().map(Option::as_deref).collect::<Vec<_>>();
        assert_eq!(columns, [Some("v.column1"), Some("?"), None, Some("v.column2")]);
        assert_eq!((many.shared, many.rows, many.values.len()), (1, 17, 1 + 2 * 17));
        assert_eq!(many.values[..4], ["kind".into(), 1_i64.into(), 1_i64.into(), 2_i64.into()]);
        assert_eq!(many.table.matches("(?, ?)").count(), 32);

        let [few] = <[Rows; 1]>::try_from(rows(15).pieces(false)).ok().expect("one statement");
        let columns = few.columns.iter().map(Option::as_deref).collect::<Vec<_>>();
        assert_eq!(columns, [Some("v.column1"), Some("v.column2"), None, Some("v.column3")]);
        assert_eq!((few.shared, few.values.len()), (0, 3 * 15));
    }

    #[test]
    fn the_first_column_tells_rows_from_what_fills_a_size() {
        let same: Table<'_> = [[7.into(), 8.into()]; 20].into_iter().collect();
        for postgres in [false, true] {
            let [all] = <[Rows; 1]>::try_from(same.pieces(postgres)).ok().expect("one");
            assert_eq!(all.columns[0].as_deref(), Some("v.column1"));
            let second = if postgres { "$2::bigint" } else { "?" };
            assert_eq!(all.columns[1].as_deref(), Some(second));
        }
    }
}
