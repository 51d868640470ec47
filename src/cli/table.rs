//! Columns, as wide as what stands in them; on a terminal cut at its edge, so that
//! each row is one line.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::style::{self, Style};

/// Between two columns.
const GAP: usize = 2;

/// What stands in one place of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// The rows below a head, a line each.
pub(super) fn lines(head: &[&str], rows: &[Vec<Cell>], room: Option<usize>) -> Vec<String> {
    let widths: Vec<usize> = (0..head.len())
        .map(|i| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.text.width());
            cells.chain([head[i].width()]).max().unwrap_or_default()
        })
        .collect();
    let head: Vec<Cell> = head.iter().map(|text| Cell::styled(*text, style::HEAD)).collect();
    std::iter::once(&head).chain(rows).map(|row| line(row, &widths, room)).collect()
}

fn line(row: &[Cell], widths: &[usize], room: Option<usize>) -> String {
    let mut left = room.unwrap_or(usize::MAX);
    let mut text = String::new();
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or_default();
    for (at, (cell, width)) in row.iter().zip(widths).take(last + 1).enumerate() {
        let shown = cut(&cell.text, left);
        let used = shown.width();
        text.push_str(&style::painted(&shown, cell.style));
        let pad = if at == last { 0 } else { (width - used.min(*width) + GAP).min(left - used) };
        text.push_str(&" ".repeat(pad));
        left -= used + pad;
        if left == 0 {
            break;
        }
    }
    text
}

/// As much of a text as has room; that something is missing is seen by its end.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or_default();
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if room > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another() {
        let rows = [vec!["a".into(), "日本".into(), "x".into()], vec!["bcd".into(), "".into()]];
        let plain = |room| {
            let lines = lines(&["N", "KIND", "LAST"], &rows, room);
            lines
                .iter()
                .map(|line| anstream::adapter::strip_str(line).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(None), ["N    KIND  LAST", "a    日本  x", "bcd"]);
        assert_eq!(plain(Some(8)), ["N    KI…", "a    日…", "bcd"]);
        assert_eq!((&*cut("abc", 3), &*cut("abc", 2), &*cut("abc", 0)), ("abc", "a…", ""));
    }
}
