//! Values as Python prints them: that is how answers and rows stand in the recordings.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    None,
    /// A string, or a number as it stands there.
    Text(String),
    Bytes(Vec<u8>),
    /// A tuple or a list.
    List(Vec<Value>),
    /// A dictionary.
    Named(Vec<(Value, Value)>),
}

impl Value {
    /// Reads one; what follows it.
    pub fn read(text: &str) -> Option<(Self, &str)> {
        let text = text.trim_start();
        let first = text.chars().next()?;
        match first {
            '(' | '[' => list(&text[1..]),
            '{' => named(&text[1..]),
            '\'' | '"' => {
                let (bytes, rest) = string(text)?;
                Some((Self::Text(String::from_utf8_lossy(&bytes).into_owned()), rest))
            }
            'b' if text[1..].starts_with(['\'', '"']) => {
                let (bytes, rest) = string(&text[1..])?;
                Some((Self::Bytes(bytes), rest))
            }
            _ => {
                let end = text.find([',', ')', ']', '}', ':', ' ']).unwrap_or(text.len());
                let (word, rest) = text.split_at(end);
                let value = if word == "None" { Self::None } else { Self::Text(word.to_owned()) };
                (!word.is_empty()).then_some((value, rest))
            }
        }
    }

    /// A whole text as one value.
    pub fn parse(text: &str) -> Option<Self> {
        Self::read(text).filter(|(_, rest)| rest.trim().is_empty()).map(|(value, _)| value)
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The values of a tuple or list.
    pub fn list(&self) -> &[Self] {
        if let Self::List(values) = self { values } else { &[] }
    }

    /// A record of values, as a client gets it.
    pub fn record(&self) -> Vec<Option<String>> {
        self.list().iter().map(|value| value.text().map(str::to_owned)).collect()
    }
}

fn list(mut rest: &str) -> Option<(Value, &str)> {
    let mut values = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix([')', ']']) {
            return Some((Value::List(values), after));
        }
        let (value, after) = Value::read(rest)?;
        values.push(value);
        rest = after;
    }
}

fn named(mut rest: &str) -> Option<(Value, &str)> {
    let mut values = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((Value::Named(values), after));
        }
        let (name, after) = Value::read(rest)?;
        let (value, after) = Value::read(after.strip_prefix(':')?)?;
        values.push((name, value));
        rest = after;
    }
}

/// What is between quotes, and what follows.
fn string(text: &str) -> Option<(Vec<u8>, &str)> {
    let quote = text.chars().next()?;
    let (mut bytes, mut letters) = (Vec::new(), text.char_indices().skip(1));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => match letters.next()?.1 {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'x' => {
                    let hex: String = [letters.next()?.1, letters.next()?.1].iter().collect();
                    bytes.push(u8::from_str_radix(&hex, 16).ok()?);
                }
                other => bytes.extend(other.to_string().as_bytes()),
            },
            letter if letter == quote => return Some((bytes, &text[at + 1..])),
            letter => bytes.extend(letter.to_string().as_bytes()),
        }
    }
    None
}

/// Records as Python prints them.
pub fn printed(records: &[Vec<Option<String>>]) -> String {
    let value = |value: &Option<String>| match value {
        None => "None".to_owned(),
        Some(text) => format!("'{text}'"),
    };
    let tuple = |parts: Vec<String>| match &parts[..] {
        [only] => format!("({only},)"),
        parts => format!("({})", parts.join(", ")),
    };
    tuple(records.iter().map(|record| tuple(record.iter().map(value).collect())).collect())
}

#[test]
fn what_python_prints_is_read() {
    let text = r#"('rows', ["a'b"], [('1', None)], {'x': 3}, b"\x00'\\n")"#;
    let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| Value::Text((*text).to_owned())).collect());
    assert_eq!(
        Value::parse(text).unwrap(),
        Value::List(vec![
            Value::Text("rows".to_owned()),
            texts(&["a'b"]),
            Value::List(vec![Value::List(vec![Value::Text("1".to_owned()), Value::None])]),
            Value::Named(vec![(Value::Text("x".to_owned()), Value::Text("3".to_owned()))]),
            Value::Bytes(b"\0'\\n".to_vec()),
        ])
    );
}
