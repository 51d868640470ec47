//! The statements that write rows of values: insert them, set some of their columns, or
//! remove them. Each takes many rows at once.

use sea_orm::Value as Sql;

use super::{
    StoreError, Transaction,
    script::Write,
    statements::{Rows, lists, tables},
};

/// One row of values for a statement of many.
pub(super) type Row = Vec<Sql>;

impl Transaction<'_> {
    /// Inserts rows; `Conflict` where one of them is somebody else's already.
    pub(super) async fn insert(
        &mut self,
        table: &'static str,
        columns: &[&str],
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        let postgres = self.postgres();
        // PostgreSQL's transaction would be over with an error; there the count tells.
        let conflict = if postgres { "ON CONFLICT DO NOTHING" } else { "" };
        for Rows { table: rows, columns: given, values, rows: many } in tables(postgres, rows) {
            let (names, given): (Vec<&str>, Vec<&str>) =
                columns.iter().zip(&given).filter_map(|(c, g)| Some((*c, g.as_deref()?))).unzip();
            let sql = format!(
                "INSERT INTO {table} ({}) SELECT {} FROM {rows} WHERE {} IS NOT NULL {conflict}",
                names.join(", "),
                given.join(", "),
                given[0],
            );
            let tables = &[table];
            self.write_rows(Write { tables, sql, values, rows: many, all: true }).await?;
        }
        Ok(())
    }

    /// Sets columns of rows, of which each names its row first.
    pub(super) async fn update(
        &mut self,
        table: &'static str,
        columns: &[&str],
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        let postgres = self.postgres();
        for Rows { table: rows, columns: given, values, rows: many } in tables(postgres, rows) {
            let sets: Vec<String> = columns
                .iter()
                .zip(&given[1..])
                .map(|(column, given)| format!("{column} = {}", given.as_deref().unwrap_or("NULL")))
                .collect();
            // Said twice, so that PostgreSQL looks for these rows alone, whatever it believes
            // of a table that was empty when it last heard of it.
            let only = if postgres { format!("AND {table}.row = ANY($1)") } else { String::new() };
            let sql = format!(
                "UPDATE {table} SET {} FROM {rows} WHERE {table}.row = v.column1 {only}",
                sets.join(", ")
            );
            let tables = &[table];
            self.write_rows(Write { tables, sql, values, rows: many, all: false }).await?;
        }
        Ok(())
    }

    /// Inserts rows of a key and a value, or sets the value where the key is there.
    pub(super) async fn upsert(
        &mut self,
        table: &'static str,
        [key, value]: [&str; 2],
        rows: Vec<Row>,
    ) -> Result<(), StoreError> {
        for Rows { table: rows, values, rows: many, .. } in tables(self.postgres(), rows) {
            let sql = format!(
                "INSERT INTO {table} ({key}, {value}) SELECT v.column1, v.column2 FROM {rows} \
                 WHERE v.column1 IS NOT NULL \
                 ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}"
            );
            let tables = &[table];
            self.write_rows(Write { tables, sql, values, rows: many, all: false }).await?;
        }
        Ok(())
    }

    /// Removes rows that have one of these numbers in this column.
    pub(super) async fn remove(
        &mut self,
        table: &'static str,
        column: &str,
        numbers: &[i64],
    ) -> Result<(), StoreError> {
        for (list, values) in lists(self.postgres(), numbers.iter().copied()) {
            let sql = format!("DELETE FROM {table} WHERE {column} {list}");
            self.write_list(&[table], sql, values).await?;
        }
        Ok(())
    }

    /// Writes what a list names: see [`lists`].
    pub(super) async fn write_list(
        &mut self,
        tables: &[&'static str],
        sql: String,
        values: Vec<Sql>,
    ) -> Result<(), StoreError> {
        let rows = values.len();
        self.write_rows(Write { tables, sql, values, rows, all: false }).await
    }
}
