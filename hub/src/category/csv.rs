//! Comma-separated values as spreadsheets write them (RFC 4180, semicolons too, byte order mark
//! tolerated), and back. Pure; a record that cannot be read is named by its line.

/// Reads a file: its records with the line each begins in.
///
/// Fields are separated by whichever of `,` and `;` the first line holds outside of quotes first.
///
/// # Errors
/// The line of a quote that is not closed, or that stands inside a field.
pub fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let separator = separator(text);
    let (mut records, mut rest, mut line) = (Vec::new(), text, 1);
    while !rest.is_empty() {
        let begun = line;
        let mut record = Vec::new();
        loop {
            let (field, after) = field(rest, separator).ok_or_else(|| {
                format!("line {begun}: a quote is not closed or stands in a field")
            })?;
            line += field.matches('\n').count();
            record.push(field);
            rest = after;
            match rest.strip_prefix(separator) {
                Some(after) => rest = after,
                None => break,
            }
        }
        rest = rest.strip_prefix('\r').unwrap_or(rest);
        rest = rest.strip_prefix('\n').unwrap_or(rest);
        line += 1;
        if record.iter().any(|field| !field.is_empty()) {
            records.push((begun, record));
        }
    }
    Ok(records)
}

/// One record as a line with its end.
#[must_use]
pub fn line(fields: &[&str]) -> String {
    let quoted = |field: &&str| {
        // A byte order mark at the beginning would be taken for the file's.
        let plain =
            !field.contains([',', ';', '"', '\n', '\r', '\u{feff}']) && field.trim() == *field;
        if plain { (*field).to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

fn separator(text: &str) -> char {
    let mut is_quoted = false;
    for c in text.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '\n' if !is_quoted => break,
            ',' | ';' if !is_quoted => return c,
            _ => {}
        }
    }
    ','
}

/// The next field and what stands after it.
fn field(text: &str, separator: char) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([separator, '\n', '\r']).unwrap_or(text.len());
        let (field, after) = text.split_at(end);
        return (!field.contains('"')).then(|| (field.trim().to_owned(), after));
    };
    let (mut field, mut rest) = (String::new(), quoted);
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(again) => {
                field.push('"');
                rest = again;
            }
            None => {
                let ends = after.is_empty() || after.starts_with([separator, '\n', '\r']);
                return ends.then_some((field, after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_spreadsheets_write_is_read() {
        let check = |text: &str, expected: &[(usize, &[&str])]| {
            let found = read(text).unwrap();
            let found: Vec<(usize, Vec<&str>)> = found
                .iter()
                .map(|(line, record)| (*line, record.iter().map(String::as_str).collect()))
                .collect();
            let expected: Vec<_> = expected.iter().map(|(n, r)| (*n, r.to_vec())).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("code,name\r\n01,Kinh\r\n", &[(1, &["code", "name"]), (2, &["01", "Kinh"])]);
        check("\u{feff}code;name\n01;\"A; B\"", &[(1, &["code", "name"]), (2, &["01", "A; B"])]);
        check("a,\"b\"\"c\nd\"\n\ne,", &[(1, &["a", "b\"c\nd"]), (4, &["e", ""])]);
        check("", &[]);
        assert!(read("a,b\n\"c,d").unwrap_err().contains("line 2"));
        assert!(read("a,b\"c").unwrap_err().contains("line 1"));
        assert!(read("\"a\"b,c").unwrap_err().contains("line 1"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for first in ["01", "\u{feff}01"] {
            let fields = [first, "A, \"B\"; C\nD", "", " mép "];
            let read = read(&line(&fields)).unwrap();
            assert_eq!(read, [(1, fields.map(str::to_owned).to_vec())]);
        }
    }
}
