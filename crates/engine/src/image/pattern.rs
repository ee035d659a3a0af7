//! Shell patterns over names, as Go's `path.Match` has them: `*` and `?` never match a slash.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    match_from(&pattern, &text)
}

/// Goes back to the last star only, so time is bounded by the product of both lengths.
fn match_from(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if at < pattern.len() && pattern[at] == '*' {
            star = Some((at, position));
            at += 1;
            continue;
        }
        if position == text.len() && at == pattern.len() {
            return true;
        }
        let step = match (pattern.get(at), text.get(position)) {
            (Some(_), Some(&letter)) => match_one(&pattern[at..], letter),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                at += length;
                position += 1;
            }
            (None, Some((star_at, from))) if from < text.len() && text[from] != '/' => {
                star = Some((star_at, from + 1));
                at = star_at + 1;
                position = from + 1;
            }
            _ => return false,
        }
    }
}

/// How many characters of the pattern matched this letter.
fn match_one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern[0] {
        '?' => (letter != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&letter)).then_some(2),
        '[' => match_class(pattern, letter),
        plain => (plain == letter).then_some(1),
    }
}

fn match_class(pattern: &[char], letter: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'^');
    let first = if negated { 2 } else { 1 };
    let end = first + pattern[first..].iter().skip(1).position(|&letter| letter == ']')? + 1;
    let class = &pattern[first..end];
    let mut found = false;
    let mut index = 0;
    while index < class.len() {
        match class.get(index..index + 3) {
            Some(&[low, '-', high]) => {
                found |= (low..=high).contains(&letter);
                index += 3;
            }
            _ => {
                found |= class[index] == letter;
                index += 1;
            }
        }
    }
    (found != negated && letter != '/').then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text) in [
            ("busybox", "busybox"),
            ("busy*", "busybox"),
            ("*box", "busybox"),
            ("b*y*x", "busybox"),
            ("*:latest", "busybox:latest"),
            ("*/app", "me/app"),
            ("b?sybox", "busybox"),
            ("[a-c]usybox", "busybox"),
            ("[^x]usybox", "busybox"),
            ("\\*", "*"),
            ("*", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", "me/app"),
            ("busy", "busybox"),
            ("*y", "busybox"),
            ("[x-z]usybox", "busybox"),
            ("[", "["),
            ("a", ""),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
