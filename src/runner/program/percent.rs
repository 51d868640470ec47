//! Finds percentages in what programs print for people.

use regex::Regex;

/// The last percentage in `text`: 0 to 100, as in "45%", "12.5 %" or "7,5%". What
/// only looks like one ("%20", "1,234%", "-5%", "x2%", "300%") is none.
pub(super) fn last(text: &str) -> Option<f64> {
    text.match_indices('%').rev().find_map(|(at, _)| before(text, at))
}

fn before(text: &str, at: usize) -> Option<f64> {
    let after = text.as_bytes().get(at + 1);
    if after.is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let left = &text[..at];
    let left = left.strip_suffix(' ').unwrap_or(left);
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let number = &left[left.trim_end_matches(digits).len()..];
    let stuck = left[..left.len() - number.len()].chars().next_back();
    if stuck.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_')) {
        return None;
    }
    let (whole, fraction) = match number.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // Three digits after a comma are thousands.
    let thousands = number.contains(',') && fraction.is_some_and(|digits| digits.len() > 2);
    if !decimal(whole) || !fraction.is_none_or(decimal) || thousands {
        return None;
    }
    within(&format!("{whole}.{}", fraction.unwrap_or("0")))
}

/// The last thing in `text` that the one group of `pattern` takes for a percentage.
pub(super) fn last_by(pattern: &Regex, text: &str) -> Option<f64> {
    let group = |captures: regex::Captures<'_>| within(captures.get(1)?.as_str().trim());
    pattern.captures_iter(text).filter_map(group).last()
}

fn within(number: &str) -> Option<f64> {
    number.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_print() {
        for (text, expected) in [
            (" 45%", Some(45.0)),
            ("12.5 %", Some(12.5)),
            ("7,5%", Some(7.5)),
            ("[100%] Built target", Some(100.0)),
            ("  1,234,567  45%    1.2MB/s    0:00:07", Some(45.0)),
            ("##########         37.4%", Some(37.4)),
            ("10% 20% 30%", Some(30.0)),
            ("50% of 300%", Some(50.0)),
            ("0%", Some(0.0)),
            ("done: 3%.", Some(3.0)),
            ("(1/3) 33%|███", Some(33.0)),
            ("100.00%", Some(100.0)),
            ("a%20b", None),
            ("45%20", None),
            ("1,234%", None),
            ("-5%", None),
            ("1.2.3%", None),
            ("x2%", None),
            ("300%", None),
            (".5%", None),
            ("5.%", None),
            ("%", None),
            ("ä%", None),
            ("no", None),
        ] {
            assert_eq!(last(text), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_of_ones_own() {
        let pattern = Regex::new(r"at (\S+) of").expect("a pattern");
        assert_eq!(last_by(&pattern, "at 7 of, at 9.5 of"), Some(9.5));
        assert_eq!(last_by(&pattern, "at 7 of, at nan of, at 900 of"), Some(7.0));
        assert_eq!(last_by(&pattern, "50%"), None);
    }
}
