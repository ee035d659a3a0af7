//! `key=value,key=value` lists, with CSV's quoting: `"device=0,1",driver=x`.

/// The fields of one line.
pub fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, tail) = match rest.split_once(',') {
                Some((field, tail)) => (field, Some(tail)),
                None => (rest, None),
            };
            if field.contains('"') {
                return Err("parse error: bare \" in non-quoted-field".to_string());
            }
            fields.push(field.to_string());
            match tail {
                Some(tail) => rest = tail,
                None => return Ok(fields),
            }
            continue;
        };
        let (field, tail) = quoted_field(quoted)?;
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(tail) => rest = tail,
            None if tail.is_empty() => return Ok(fields),
            None => return Err("parse error: extraneous or missing \" in quoted-field".to_string()),
        }
    }
}

/// A quoted field, where `""` stands for one quote, and what follows its closing quote.
fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("parse error: extraneous or missing \" in quoted-field".to_string());
        };
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(fields("a=1,b").unwrap(), ["a=1", "b"]);
        assert_eq!(
            fields("\"device=0,1\",driver=\"\"").unwrap_err(),
            "parse error: bare \" in non-quoted-field"
        );
        assert_eq!(fields("\"device=0,1\",x").unwrap(), ["device=0,1", "x"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert!(fields("\"a").is_err());
    }
}
