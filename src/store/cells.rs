//! What is written to the columns of a row: borrowed, so that rows can be compared before
//! values are made of them.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{Value as Sql, sea_query::ArrayType};

use super::{
    Timestamp,
    rows::{failure_sql, labels_sql, micros, progress_sql, state_sql},
};
use crate::domain::{Failure, Object, Progress, State};

/// What stands in a column; None is NULL.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Small(Option<i16>),
    Int(Option<i32>),
    Big(Option<i64>),
    Double(Option<f64>),
    Text(Option<&'a str>),
    Bytes(Option<&'a [u8]>),
    Labels(Option<&'a BTreeMap<String, String>>),
    Progress(Option<&'a Progress>),
    Failure(Option<&'a Failure>),
}

/// The type of a column of PostgreSQL.
pub(super) struct ColumnType {
    pub(super) array: ArrayType,
    pub(super) name: &'static str,
    /// What stands for NULL in an array, which has none, and how that is written.
    pub(super) none: Sql,
    pub(super) literal: &'static str,
}

impl<'a> Cell<'a> {
    pub(super) fn time(time: Option<Timestamp>) -> Self {
        Self::Big(time.map(Timestamp::micros))
    }

    /// In microseconds.
    pub(super) fn span(span: Option<Duration>) -> Self {
        Self::Big(span.map(micros))
    }

    pub(super) fn object(object: Option<&'a Object>) -> Self {
        Self::Bytes(object.map(|object| &**object.encoded()))
    }

    pub(super) fn labels(labels: &'a BTreeMap<String, String>) -> Self {
        Self::Labels(Some(labels).filter(|labels| !labels.is_empty()))
    }

    pub(super) const fn is_null(&self) -> bool {
        match self {
            Self::Small(value) => value.is_none(),
            Self::Int(value) => value.is_none(),
            Self::Big(value) => value.is_none(),
            Self::Double(value) => value.is_none(),
            Self::Text(value) => value.is_none(),
            Self::Bytes(value) => value.is_none(),
            Self::Labels(value) => value.is_none(),
            Self::Progress(value) => value.is_none(),
            Self::Failure(value) => value.is_none(),
        }
    }

    /// What stands for NULL is never stored: no protobuf message is one zero.
    pub(super) fn column_type(&self) -> ColumnType {
        let (array, name, none, literal) = match self {
            Self::Small(_) => {
                (ArrayType::SmallInt, "smallint", i16::MIN.into(), "'-32768'::smallint")
            }
            Self::Int(_) => (ArrayType::Int, "integer", i32::MIN.into(), "'-2147483648'::integer"),
            Self::Big(_) => {
                let literal = "'-9223372036854775808'::bigint";
                (ArrayType::BigInt, "bigint", i64::MIN.into(), literal)
            }
            Self::Double(_) => {
                (ArrayType::Double, "double precision", f64::NAN.into(), "'NaN'::double precision")
            }
            Self::Text(_) => (ArrayType::String, "text", "".into(), "''"),
            Self::Bytes(_) | Self::Labels(_) | Self::Progress(_) | Self::Failure(_) => {
                (ArrayType::Bytes, "bytea", vec![0_u8].into(), "'\\x00'::bytea")
            }
        };
        ColumnType { array, name, none, literal }
    }
}

impl From<Cell<'_>> for Sql {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Small(value) => value.into(),
            Cell::Int(value) => value.into(),
            Cell::Big(value) => value.into(),
            Cell::Double(value) => value.into(),
            Cell::Text(value) => value.into(),
            Cell::Bytes(value) => value.map(<[u8]>::to_vec).into(),
            Cell::Labels(value) => value.map(labels_sql).into(),
            Cell::Progress(value) => value.map(progress_sql).into(),
            Cell::Failure(value) => value.map(failure_sql).into(),
        }
    }
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Self::Big(Some(value))
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value))
    }
}

impl<'a> From<&'a [u8]> for Cell<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<State> for Cell<'_> {
    fn from(state: State) -> Self {
        Self::Small(Some(state_sql(state)))
    }
}
