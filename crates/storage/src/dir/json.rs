//! Just enough JSON for the two one-line files that Kafka keeps in JSON: `quorum-state` and `.kafka_cleanshutdown`.
//!
//! The one tricky idea: the reader accepts any JSON value up to a small depth, so that fields that we do not know are skipped, not refused.

/// Nesting that the reader follows; Kafka's files have three levels.
const DEPTH_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// Integers only: nothing in these files has a fraction.
    Number(i64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(super) fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_i32(&self) -> Option<i32> {
        self.as_i64().and_then(|number| i32::try_from(number).ok())
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Reads one value; `None` if the text is not JSON.
    pub(super) fn parse(text: &str) -> Option<Json> {
        let mut reader = Text { bytes: text.as_bytes(), position: 0 };
        let value = reader.value(0)?;
        reader.skip_space();
        (reader.position == reader.bytes.len()).then_some(value)
    }
}

struct Text<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == Some(byte)).then(|| self.position += 1)
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        let end = self.position + word.len();
        (self.bytes.get(self.position..end)? == word.as_bytes()).then(|| {
            self.position = end;
            value
        })
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_space();
        match self.peek()? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.string().map(Json::String),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let start = self.position;
        while matches!(self.peek(), Some(b'-' | b'0'..=b'9')) {
            self.position += 1;
        }
        std::str::from_utf8(&self.bytes[start..self.position]).ok()?.parse().ok().map(Json::Number)
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.eat(b'[')?;
        let mut items = Vec::new();
        if self.eat(b']').is_some() {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.eat(b']').is_some() {
                return Some(Json::Array(items));
            }
            self.eat(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.eat(b'{')?;
        let mut fields = Vec::new();
        if self.eat(b'}').is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.eat(b':')?;
            fields.push((name, self.value(depth + 1)?));
            if self.eat(b'}').is_some() {
                return Some(Json::Object(fields));
            }
            self.eat(b',')?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.eat(b'"')?;
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek()?;
            self.position += 1;
            match byte {
                b'"' => return String::from_utf8(bytes).ok(),
                b'\\' => self.escape(&mut bytes)?,
                _ => bytes.push(byte),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let byte = self.peek()?;
        self.position += 1;
        let plain = match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => byte,
            b'u' => {
                let digits = std::str::from_utf8(self.bytes.get(self.position..self.position + 4)?).ok()?;
                self.position += 4;
                let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        bytes.push(plain);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_and_refuses_everything_else() {
        let value = Json::parse(r#" {"a": [1, -2, {}], "b": "x\"A", "c": null, "d": true} "#).unwrap();
        assert_eq!(value.get("a").and_then(Json::as_array).unwrap()[1].as_i64(), Some(-2));
        assert_eq!(value.get("b").and_then(Json::as_str), Some("x\"A"));
        assert_eq!(value.get("c"), Some(&Json::Null));
        for broken in ["", "{", "{\"a\"}", "[1,]", "{} x", "\"\\q\"", "1.5", &"[".repeat(1000)] {
            assert_eq!(Json::parse(broken), None, "{broken}");
        }
    }
}
