//! Where a list goes on: opaque to callers, and of use only with the filter and the
//! order that it was made for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::domain::{Cursor, Direction, Order, OrderKey, TaskId};

/// The first byte of a token, for when its form changes.
const VERSION: u8 = 1;
/// What ties a token to its filter and order.
const DIGEST_BYTES: usize = 12;
const NUMBER_BYTES: usize = 8;

/// What a page token is bound to.
#[derive(Debug)]
pub(super) struct Listing {
    digest: [u8; DIGEST_BYTES],
    keys: usize,
}

impl Listing {
    /// A list of this filter, as it was written, in this order.
    pub(super) fn new(filter: &str, order: &Order) -> Self {
        let mut hash = Sha256::new();
        for (key, direction) in &order.keys {
            let key = match key {
                OrderKey::CreateTime => 1,
                OrderKey::UpdateTime => 2,
                OrderKey::EndTime => 3,
                OrderKey::Priority => 4,
            };
            let direction = match direction {
                Direction::Ascending => 1,
                Direction::Descending => 2,
            };
            hash.update([key, direction]);
        }
        hash.update([0]);
        hash.update(filter.trim());
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&hash.finalize()[..DIGEST_BYTES]);
        Self { digest, keys: order.keys.len() }
    }

    /// The attempts of this task, by their number.
    pub(super) fn of_attempts(task: &TaskId) -> Self {
        Self::new(&format!("attempts of tasks/{task}"), &Order { keys: Vec::new() })
    }

    /// The token of the page that begins behind `cursor`.
    pub(super) fn token(&self, cursor: &Cursor) -> String {
        let Cursor { keys, row } = cursor;
        let mut bytes = vec![VERSION];
        bytes.extend(self.digest);
        bytes.extend(row.to_be_bytes());
        for key in keys {
            bytes.push(u8::from(key.is_some()));
            bytes.extend(key.unwrap_or_default().to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token stands for; none where it is garbage or was made for another list.
    pub(super) fn cursor(&self, token: &str) -> Option<Cursor> {
        // The longest that could be meant, so that nothing long is ever decoded.
        let longest = 1 + DIGEST_BYTES + NUMBER_BYTES + self.keys * (1 + NUMBER_BYTES);
        if token.len() > longest.div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let rest = bytes.strip_prefix(&[VERSION])?.strip_prefix(&self.digest)?;
        let (row, rest) = number(rest)?;
        let (keys, rest) = rest.as_chunks::<{ 1 + NUMBER_BYTES }>();
        if keys.len() != self.keys || !rest.is_empty() {
            return None;
        }
        let keys = keys.iter().map(|key| {
            let (value, _) = number(&key[1..])?;
            match key[0] {
                0 => Some(None),
                1 => Some(Some(value)),
                _ => None,
            }
        });
        Some(Cursor { keys: keys.collect::<Option<_>>()?, row })
    }
}

fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
    Some((i64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(keys: &[(OrderKey, Direction)]) -> Order {
        Order { keys: keys.to_vec() }
    }

    fn newest() -> Order {
        order(&[(OrderKey::CreateTime, Direction::Descending)])
    }

    #[test]
    fn a_token_leads_back() {
        let two = order(&[
            (OrderKey::EndTime, Direction::Ascending),
            (OrderKey::Priority, Direction::Descending),
        ]);
        let listing = Listing::new("state = RUNNING", &two);
        let cursor = Cursor { keys: vec![None, Some(-100)], row: i64::MAX };
        let token = listing.token(&cursor);
        assert_eq!(listing.cursor(&token), Some(cursor));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    }

    #[test]
    fn a_token_is_bound_to_its_list() {
        let cursor = Cursor { keys: vec![Some(1)], row: 2 };
        let token = Listing::new("state = RUNNING", &newest()).token(&cursor);
        let oldest = order(&[(OrderKey::CreateTime, Direction::Ascending)]);
        let by_update = order(&[(OrderKey::UpdateTime, Direction::Descending)]);
        assert_eq!(Listing::new("state = PAUSED", &newest()).cursor(&token), None);
        assert_eq!(Listing::new("state = RUNNING", &oldest).cursor(&token), None);
        assert_eq!(Listing::new("state = RUNNING", &by_update).cursor(&token), None);
        assert_eq!(Listing::new(" state = RUNNING ", &newest()).cursor(&token), Some(cursor));
    }

    #[test]
    fn garbage_is_no_token() {
        let listing = Listing::new("", &newest());
        let token = listing.token(&Cursor { keys: vec![Some(1)], row: 2 });
        let cut = &token[..token.len() - 4];
        let long = "A".repeat(1 << 20);
        for garbage in ["x", "!!!!", "AAAA", cut, &format!("{token}AAAA"), &long] {
            assert_eq!(listing.cursor(garbage), None);
        }
        for place in 0..token.len() {
            let mut damaged = token.clone();
            damaged.replace_range(place..=place, "~");
            assert_eq!(listing.cursor(&damaged), None);
        }
    }
}
