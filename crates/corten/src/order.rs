//! How lists for people are sorted.
use std::cmp::Ordering;

/// Numbers within names sort by their value: `web2` before `web10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(left), digits(right)) {
            (0, _) | (_, 0) => match (left.first(), right.first()) {
                (Some(one), Some(other)) if one == other => {
                    (left, right) = (&left[1..], &right[1..]);
                }
                _ => return left.cmp(right),
            },
            (one, other) => {
                let zeros = |text: &[u8]| text.iter().take_while(|byte| **byte == b'0').count();
                let (first, second) = (&left[zeros(&left[..one])..one], &right[zeros(&right[..other])..other]);
                let by_value = first.len().cmp(&second.len()).then_with(|| first.cmp(second));
                // The same number with fewer zeros comes first.
                let order = by_value.then(one.cmp(&other));
                if order != Ordering::Equal {
                    return order;
                }
                (left, right) = (&left[one..], &right[other..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["web10", "web2", "bridge", "a01", "a1", "web", "host"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a1", "a01", "bridge", "host", "web", "web2", "web10"]);
    }
}
