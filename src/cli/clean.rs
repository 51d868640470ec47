//! Text from elsewhere, made safe for a terminal.

/// What would move the cursor, colour the rest or turn the writing direction is
/// replaced; line ends too.
pub(super) fn clean(text: &str) -> String {
    // C1 controls and the marks that turn the writing direction are as good at
    // hiding things as the escape character.
    let unsafe_here = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if unsafe_here(c) { '\u{fffd}' } else { c }).collect()
}
