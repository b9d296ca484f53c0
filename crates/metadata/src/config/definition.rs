//! One definition: the facts about a key, and how a given text becomes a typed value.
//!
//! Parsing follows Kafka's `ConfigDef.parseType` (surrounding blanks do not matter, booleans in any case, lists split
//! at commas), printing follows its `convertToString`, so that what is described is what Kafka would describe.

use std::fmt;

use super::note::ConfigError;

/// Type of a key. The numbers are those of the `DescribeConfigs` response (v3 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// true or false
    Boolean = 1,
    /// any text
    String = 2,
    /// 32-bit integer
    Int = 3,
    /// 16-bit integer
    Short = 4,
    /// 64-bit integer
    Long = 5,
    /// 64-bit floating point number
    Double = 6,
    /// texts separated by commas
    List = 7,
    /// name of a Java class
    Class = 8,
    /// text that is never shown
    Password = 9,
}

/// How much a key matters to most people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// look at it before running in earnest
    High,
    /// worth knowing
    Medium,
    /// rarely touched
    Low,
}

/// Whether a broker key may be changed while the node runs (Kafka's `DynamicBrokerConfig`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// only with a restart
    ReadOnly,
    /// dynamically, for one broker
    PerBroker,
    /// dynamically, for one broker or as the cluster's default
    ClusterWide,
}

/// What setting a key does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// it does what it says
    Honoured,
    /// the value is checked and shown, and changes nothing
    Accepted,
    /// only the default is accepted: ignoring any other value would be a promise broken
    Refused,
}

/// Which values of its type a key accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum Allowed {
    /// anything of the type
    Any,
    /// numbers from this one on
    AtLeast(i64),
    /// numbers from the first to the second, both included, or the exception
    Between(f64, f64, Option<i64>),
    /// one of these texts, exactly
    OneOf(Vec<&'static str>),
    /// one of these texts, in any case
    AnyCase(Vec<&'static str>),
    /// a list; of these if there are any; and may it be empty
    Items(Vec<&'static str>, bool),
    /// a text with at least one character
    NonEmpty,
    /// `partition:broker` pairs, or `*`
    Replicas,
    /// latest, earliest, or by_duration:PnDTnHnMn.nS
    ShareReset,
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// of a boolean key
    Boolean(bool),
    /// of an int, short or long key
    Integer(i64),
    /// of a double key
    Double(f64),
    /// of a string, class or password key
    Text(String),
    /// of a list key
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// The text that `DescribeConfigs` shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Double(value) => f.write_str(&java_double(*value)),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A double as Java prints it: at least one digit after the point, exponents outside 10^-3..10^7.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) || !size.is_finite() {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

/// All facts about one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The name, as administrators write it.
    pub key: &'static str,
    /// Shown to clients only where it is set.
    pub internal: bool,
    /// Type of the value.
    pub config_type: ConfigType,
    /// Value when nothing is set; `None` means no value.
    pub default: Option<&'static str>,
    /// Which values are accepted.
    pub allowed: Allowed,
    /// How much it matters.
    pub importance: Importance,
    /// Whether it may change while running.
    pub update: Update,
    /// What setting it does here.
    pub effect: Effect,
    /// One sentence of our own.
    pub documentation: &'static str,
}

impl Definition {
    /// Whether values must never be shown.
    pub fn is_sensitive(&self) -> bool {
        self.config_type == ConfigType::Password
    }

    /// Whether `raw` is acceptable here, and what it means. A refused key accepts only its default.
    pub fn parse(&self, raw: &str) -> Result<Value, ConfigError> {
        let value =
            self.parse_type(raw.trim()).map_err(|reason| self.told(self.error(raw, reason), raw, None))?;
        self.check(&value).map_err(|reason| self.told(self.error(raw, reason), raw, Some(&value)))?;
        if self.effect == Effect::Refused && value.to_string() != self.default.unwrap_or("") {
            return Err(self.error(raw, format!("is not possible here. {}", self.documentation)));
        }
        Ok(value)
    }

    fn error(&self, raw: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::new(self.key, (!self.is_sensitive()).then_some(raw), reason)
    }

    /// The error with what Kafka's `ConfigDef` would say of `raw`: of its type, or of its value.
    fn told(&self, error: ConfigError, raw: &str, value: Option<&Value>) -> ConfigError {
        let words = match (value, &self.allowed, self.config_type) {
            (None, _, ConfigType::Boolean) => "Expected value to be either true or false".to_owned(),
            (None, _, ConfigType::Short | ConfigType::Int | ConfigType::Long | ConfigType::Double) => {
                format!("Not a number of type {}", format!("{:?}", self.config_type).to_uppercase())
            }
            (Some(_), Allowed::AtLeast(min), _) => format!("Value must be at least {min}"),
            (Some(Value::Integer(number)), Allowed::Between(min, max, _), _) => match (*number as f64) < *min
            {
                true => format!("Value must be at least {min}"),
                false => format!("Value must be no more than {max}"),
            },
            (Some(_), Allowed::OneOf(texts), _) => format!("String must be one of: {}", texts.join(", ")),
            (Some(_), Allowed::AnyCase(texts), _) => {
                format!("String must be one of (case insensitive): {}", texts.join(", "))
            }
            (Some(_), Allowed::ShareReset, _) => format!(
                "Invalid value `{raw}` for configuration {}. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
                self.key
            ),
            _ => return error,
        };
        error.telling(format!("Invalid value {raw} for configuration {}: {words}", self.key))
    }

    fn parse_type(&self, text: &str) -> Result<Value, String> {
        let integer = |bits: &str, min: i64, max: i64| {
            let parsed = text.parse::<i64>().ok().filter(|n| (min..=max).contains(n));
            parsed.map(Value::Integer).ok_or_else(|| format!("must be a whole number of {bits} bits"))
        };
        match self.config_type {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            ConfigType::Boolean => Err("must be true or false".to_owned()),
            ConfigType::Short => integer("16", i64::from(i16::MIN), i64::from(i16::MAX)),
            ConfigType::Int => integer("32", i64::from(i32::MIN), i64::from(i32::MAX)),
            ConfigType::Long => integer("64", i64::MIN, i64::MAX),
            ConfigType::Double => match text.parse::<f64>() {
                Ok(number) if !number.is_nan() => Ok(Value::Double(number)),
                _ => Err("must be a number".to_owned()),
            },
            ConfigType::String | ConfigType::Class | ConfigType::Password => Ok(Value::Text(text.to_owned())),
            ConfigType::List => Ok(Value::List(split_list(text)?)),
        }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        match (&self.allowed, value) {
            (Allowed::Any, _) => Ok(()),
            (Allowed::AtLeast(min), Value::Integer(number)) if number < min => {
                Err(format!("must be at least {min}"))
            }
            (Allowed::Between(min, max, exception), Value::Integer(number)) => {
                let inside = (*min..=*max).contains(&(*number as f64)) || *exception == Some(*number);
                check_between(inside, *min, *max, *exception)
            }
            (Allowed::Between(min, max, exception), Value::Double(number)) => {
                check_between((*min..=*max).contains(number), *min, *max, *exception)
            }
            (Allowed::OneOf(texts), Value::Text(text)) if !texts.contains(&text.as_str()) => {
                Err(format!("must be one of {}", texts.join(", ")))
            }
            (Allowed::AnyCase(texts), Value::Text(text))
                if !texts.iter().any(|known| known.eq_ignore_ascii_case(text)) =>
            {
                Err(format!("must be one of {}", texts.join(", ")))
            }
            (Allowed::Items(_, false), Value::List(items)) if items.is_empty() => {
                Err("must not be empty".to_owned())
            }
            (Allowed::Items(known, _), Value::List(items)) if !known.is_empty() => {
                match items.iter().find(|item| !known.contains(&item.as_str())) {
                    Some(item) => Err(format!("has no {item}, only {}", known.join(", "))),
                    None => Ok(()),
                }
            }
            (Allowed::NonEmpty, Value::Text(text)) if text.is_empty() => Err("must not be empty".to_owned()),
            (Allowed::Replicas, Value::List(items)) => check_replicas(items),
            (Allowed::ShareReset, Value::Text(text)) => check_share_reset(text),
            _ => Ok(()),
        }
    }
}

/// Splits at commas, drops blanks around the items, and keeps the first of equal items (KIP-1161).
fn split_list(text: &str) -> Result<Vec<String>, String> {
    let mut items: Vec<String> = Vec::new();
    if text.is_empty() {
        return Ok(items);
    }
    for item in text.split(',').map(str::trim) {
        if item.is_empty() {
            return Err("has an empty item".to_owned());
        }
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    Ok(items)
}

fn check_between(inside: bool, min: f64, max: f64, exception: Option<i64>) -> Result<(), String> {
    match exception {
        _ if inside => Ok(()),
        Some(exception) => Err(format!("must be between {min} and {max}, or {exception}")),
        None => Err(format!("must be between {min} and {max}")),
    }
}

fn check_replicas(items: &[String]) -> Result<(), String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pair = |item: &String| item.split_once(':').is_some_and(|(a, b)| number(a) && number(b));
    if items == ["*"] || items.iter().all(pair) {
        return Ok(());
    }
    Err("must be * or pairs of partition:broker".to_owned())
}

fn check_share_reset(text: &str) -> Result<(), String> {
    let lower = text.to_ascii_lowercase();
    let duration = |text: &str| {
        let digits = text.bytes().any(|byte| byte.is_ascii_digit());
        digits
            && text.starts_with('p')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
    };
    match lower.split_once(':') {
        None if lower == "latest" || lower == "earliest" => Ok(()),
        Some(("by_duration", rest)) if duration(rest) => Ok(()),
        _ => {
            Err("must be latest, earliest, or by_duration: with an ISO-8601 duration such as PT1H".to_owned())
        }
    }
}
