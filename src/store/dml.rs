//! The statements that write rows of values: insert them, set some of their columns, or
//! remove them. Each takes many rows at once.

use sea_orm::Value as Sql;

use super::{
    StoreError, Transaction,
    script::Write,
    statements::lists,
    table::{Rows, Table},
};

impl Transaction<'_> {
    /// Inserts rows; `Conflict` where one of them is somebody else's already.
    pub(super) async fn insert(
        &mut self,
        table: &'static str,
        columns: &[&str],
        rows: &Table<'_>,
    ) -> Result<(), StoreError> {
        self.insert_or(table, columns, rows, "").await
    }

    /// Inserts rows of a key and a value, or sets the value where the key is there.
    pub(super) async fn upsert(
        &mut self,
        table: &'static str,
        [key, value]: [&str; 2],
        rows: &Table<'_>,
    ) -> Result<(), StoreError> {
        let set = format!("ON CONFLICT ({key}) DO UPDATE SET {value} = excluded.{value}");
        self.insert_or(table, &[key, value], rows, &set).await
    }

    async fn insert_or(
        &mut self,
        table: &'static str,
        columns: &[&str],
        rows: &Table<'_>,
        conflict: &str,
    ) -> Result<(), StoreError> {
        self.write_each(table, rows, |rows, given| {
            let (names, given): (Vec<&str>, Vec<&str>) =
                columns.iter().zip(given).filter_map(|(c, g)| Some((*c, g.as_deref()?))).unzip();
            format!(
                "INSERT INTO {table} ({}) SELECT {} FROM {rows} WHERE {} IS NOT NULL {conflict}",
                names.join(", "),
                given.join(", "),
                given[0],
            )
        })
        .await
    }

    /// Sets columns of rows, of which each names its row first.
    pub(super) async fn update(
        &mut self,
        table: &'static str,
        columns: &[&str],
        rows: &Table<'_>,
    ) -> Result<(), StoreError> {
        // Said twice, so that PostgreSQL looks for these rows alone, whatever it believes of a
        // table that was empty when it last heard of it.
        let only =
            if self.postgres() { format!("AND {table}.row = ANY($1)") } else { String::new() };
        self.write_each(table, rows, |rows, given| {
            let sets: Vec<String> = columns
                .iter()
                .zip(&given[1..])
                .map(|(column, given)| format!("{column} = {}", given.as_deref().unwrap_or("NULL")))
                .collect();
            format!(
                "UPDATE {table} SET {} FROM {rows} WHERE {table}.row = v.column1 {only}",
                sets.join(", ")
            )
        })
        .await
    }

    /// Writes rows of values to a table, in as few statements as can be. `sql` is told what
    /// stands for the rows, and for each of their columns: see [`Rows`].
    pub(super) async fn write_each(
        &mut self,
        table: &'static str,
        rows: &Table<'_>,
        sql: impl Fn(&str, &[Option<String>]) -> String,
    ) -> Result<(), StoreError> {
        for Rows { table: given, columns, values, shared, rows } in rows.pieces(self.postgres()) {
            let (tables, sql) = (&[table], sql(&given, &columns));
            self.write_rows(Write { tables, sql, values, shared, rows }).await?;
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
        self.write_rows(Write { tables, sql, values, shared: 0, rows }).await
    }
}
