//! Whether an argument of a configured command can be filled in: `{input.KEY}`,
//! `{input}`, `{task}` and `{attempt}`, with `{{` and `}}` for braces. The runner
//! fills them in; here they are only checked, so that a mistake names its line.

/// Checks one argument.
///
/// # Errors
///
/// What is wrong with it, and what would be right.
pub(super) fn check(argument: &str) -> Result<(), String> {
    let mut rest = argument;
    while let Some(at) = rest.find(['{', '}']) {
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err(format!("{argument:?} has a '}}' without its '{{': write '}}}}'"));
        }
        let Some((inside, after)) = after.split_once('}') else {
            return Err(format!("{argument:?} has a '{{' without its '}}': write '{{{{'"));
        };
        placeholder(inside)?;
        rest = after;
    }
    Ok(())
}

fn placeholder(inside: &str) -> Result<(), String> {
    let known = matches!(inside, "input" | "task" | "attempt")
        || inside
            .strip_prefix("input.")
            .is_some_and(|path| path.split('.').all(|key| !key.is_empty()));
    if known {
        return Ok(());
    }
    Err(format!(
        "{{{inside}}} is no placeholder: there are {{input.KEY}}, {{input}}, {{task}} and \
         {{attempt}}; for braces that stand for themselves write '{{{{' and '}}}}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn placeholders() {
        for good in
            ["", "-x", "{input.a}", "a{input.a.0.b}c{task}", "{input}", "{{x}}", "{{{attempt}}}"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["{", "}", "{}", "{input.}", "{input..a}", "{inputs.a}", "{input.a", "{x}", "a}b"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
