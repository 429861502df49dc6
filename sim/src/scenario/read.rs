//! TOML into typed values, with errors that say where, which field, what was expected and what was found.
//!
//! Not by serde: a derived reader knows the place of a value but not the path of the field, has no nearest names, and
//! cannot tell a reference to an unknown host from a string. The parser's spans are all that is needed to do better.

use posse_core::Duration;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Why a file is no scenario: the first thing that is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadScenario {
    /// The file's name, as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The field's path, such as `nat.home.mapping`; empty if the text is no TOML at all.
    pub field: String,
    /// What is wrong, and what was expected instead.
    pub problem: String,
    /// The line itself.
    excerpt: String,
    /// How many characters of it are meant.
    width: usize,
}

impl fmt::Display for BadScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, field, problem, excerpt, width } = self;
        write!(f, "{file}:{line}:{column}: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        let margin = line.to_string().len();
        let (indent, carets) = (column - 1, "^".repeat((*width).max(1)));
        write!(f, "{problem}\n{:margin$} |\n{line} | {excerpt}\n{:margin$} | {:indent$}{carets}", "", "", "")
    }
}

impl std::error::Error for BadScenario {}

/// A file's name and text.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn error(&self, span: Range<usize>, field: &str, problem: String) -> BadScenario {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let excerpt = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let meant = self.text.get(start..span.end.min(self.text.len())).unwrap_or_default();
        BadScenario {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            field: field.to_owned(),
            problem,
            excerpt: excerpt.to_owned(),
            width: meant.lines().next().unwrap_or_default().chars().count(),
        }
    }

    /// The line that `offset` is in, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or_default().matches('\n').count() + 1
    }
}

/// A value and where it stands.
pub(super) struct Value<'a> {
    source: Source<'a>,
    pub(super) path: String,
    pub(super) span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    fn new(source: Source<'a>, path: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { source, path, span: value.span(), value: value.get_ref() }
    }

    /// The same value as if it stood at its key, for errors about the key.
    pub(super) fn at(self, key: Range<usize>) -> Self {
        Self { span: key, ..self }
    }

    /// An error at this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> BadScenario {
        self.source.error(self.span.clone(), &self.path, problem.into())
    }

    fn expected(&self, what: &str) -> BadScenario {
        let found = match self.value {
            DeValue::String(s) => format!("{s:?}"),
            DeValue::Integer(i) => i.to_string(),
            DeValue::Float(x) => x.to_string(),
            DeValue::Boolean(b) => b.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    pub(super) fn string(&self) -> Result<&'a str, BadScenario> {
        match self.value {
            DeValue::String(s) => Ok(s.as_ref()),
            _ => Err(self.expected("a string")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, BadScenario> {
        self.value.as_bool().ok_or_else(|| self.expected("true or false"))
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, BadScenario> {
        let what = || format!("a whole number from {} to {}", range.start(), range.end());
        let read = self.value.as_integer().and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok());
        read.filter(|n| range.contains(n)).ok_or_else(|| self.expected(&what()))
    }

    /// A range of ports, such as `[1024, 65535]`.
    pub(super) fn ports(&self) -> Result<RangeInclusive<u16>, BadScenario> {
        let read: Result<Vec<u64>, _> = self.list()?.iter().map(|v| v.integer(1..=u16::MAX.into())).collect();
        match read?.as_slice() {
            &[first, last] if first <= last => Ok(first as u16..=last as u16),
            _ => Err(self.expected("the first and the last port, such as [1024, 65535]")),
        }
    }

    /// A whole number that is not 0.
    pub(super) fn stride(&self) -> Result<i16, BadScenario> {
        let read = self.value.as_integer().and_then(|i| i16::from_str_radix(i.as_str(), i.radix()).ok());
        read.filter(|n| *n != 0).ok_or_else(|| self.expected("a whole number from -32768 to 32767 that is not 0"))
    }

    /// A number of at least 1, such as the 1.1 of "within 1.1 times the bound".
    pub(super) fn ratio(&self) -> Result<f64, BadScenario> {
        let read = match self.value {
            DeValue::Float(x) => x.as_str().parse::<f64>().ok(),
            DeValue::Integer(i) => i.as_str().parse::<f64>().ok(),
            _ => None,
        };
        read.filter(|x| x.is_finite() && *x >= 1.0).ok_or_else(|| self.expected("a number of at least 1, such as 1.1"))
    }

    fn quantity<T>(&self, parse: impl Fn(&str) -> Option<T>, what: &str) -> Result<T, BadScenario> {
        self.value.as_str().and_then(parse).ok_or_else(|| self.expected(what))
    }

    pub(super) fn duration(&self) -> Result<Duration, BadScenario> {
        self.quantity(
            super::units::duration,
            "a duration of 0 or more with its unit (ns us ms s min h), such as \"20ms\"",
        )
    }

    pub(super) fn positive_duration(&self) -> Result<Duration, BadScenario> {
        match self.duration()? {
            Duration::ZERO => Err(self.expected("a duration of more than 0")),
            d => Ok(d),
        }
    }

    pub(super) fn rate(&self) -> Result<u64, BadScenario> {
        self.quantity(
            super::units::rate,
            "a rate of more than 0 with its unit (b/s kb/s Mb/s Gb/s), such as \"10Mb/s\"",
        )
    }

    /// Parts in a million.
    pub(super) fn share(&self) -> Result<u32, BadScenario> {
        self.quantity(super::units::percent, "a share from \"0%\" to \"100%\", such as \"0.5%\"")
    }

    pub(super) fn bytes(&self, range: RangeInclusive<u64>) -> Result<u64, BadScenario> {
        let what = format!("{} to {} bytes, as a number or with a unit (B kB MB KiB MiB)", range.start(), range.end());
        let read = match self.value {
            DeValue::Integer(i) => u64::from_str_radix(i.as_str(), i.radix()).ok(),
            DeValue::String(s) => super::units::bytes(s),
            _ => None,
        };
        read.filter(|n| range.contains(n)).ok_or_else(|| self.expected(&what))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Result<T, BadScenario> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        let found = self.value.as_str().and_then(|s| words.iter().find(|(name, _)| *name == s));
        match (found, self.value.as_str()) {
            (Some(&(_, value)), _) => Ok(value),
            (None, Some(text)) => Err(self.error(format!("{text:?} is not known; {}", suggest(text, &names)))),
            (None, None) => Err(self.expected(&one_of(&names))),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Self>, BadScenario> {
        let DeValue::Array(items) = self.value else { return Err(self.expected("a list")) };
        let item = |(i, value)| Self::new(self.source, format!("{}[{i}]", self.path), value);
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    /// A table with no other fields than `known`.
    pub(super) fn table(&self, known: &'static [&'static str]) -> Result<Fields<'a>, BadScenario> {
        let fields = self.open()?;
        fields.refuse_unknown(known)?;
        Ok(fields)
    }

    /// A table whose fields depend on one of them.
    pub(super) fn open(&self) -> Result<Fields<'a>, BadScenario> {
        let DeValue::Table(table) = self.value else { return Err(self.expected("a table")) };
        Ok(Fields { source: self.source, path: self.path.clone(), span: self.span.clone(), table })
    }
}

/// A table with a name, such as `[nat.home]`.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    /// Where the name stands.
    pub(super) key: Range<usize>,
    pub(super) value: Value<'a>,
}

/// A table's fields.
pub(super) struct Fields<'a> {
    source: Source<'a>,
    path: String,
    pub(super) span: Range<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Fields<'a> {
    /// A whole file.
    pub(super) fn root(source: Source<'a>, table: &'a DeTable<'a>) -> Self {
        // What is missing of a file is missing at its beginning.
        Self { source, path: String::new(), span: 0..0, table }
    }

    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Result<(), BadScenario> {
        let unknown = self.table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        let name = key.get_ref().as_ref();
        Err(self.source.error(key.span(), &self.child(name), format!("unknown field; {}", suggest(name, known))))
    }

    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        self.table.get(name).map(|value| Value::new(self.source, self.child(name), value))
    }

    pub(super) fn require(&self, name: &str, what: &str) -> Result<Value<'a>, BadScenario> {
        let missing = || self.source.error(self.span.clone(), &self.child(name), format!("missing; expected {what}"));
        self.get(name).ok_or_else(missing)
    }

    /// The named tables below `name` (`[nat.home]`), in the order of the file.
    pub(super) fn named(&self, name: &str) -> Result<Vec<Named<'a>>, BadScenario> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let DeValue::Table(table) = value.value else {
            return Err(value.expected(&format!("named tables, such as [{name}.x]")));
        };
        let entry = |(key, v): (&'a Spanned<DeString<'a>>, &'a _)| {
            let name: &'a str = key.get_ref();
            Named { name, key: key.span(), value: Value::new(self.source, format!("{}.{name}", value.path), v) }
        };
        let mut all: Vec<_> = table.iter().map(entry).collect();
        all.sort_by_key(|named| named.key.start);
        Ok(all)
    }

    /// The tables of `[[name]]`, in the order of the file.
    pub(super) fn repeated(&self, name: &str) -> Result<Vec<Value<'a>>, BadScenario> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        if !matches!(value.value, DeValue::Array(_)) {
            return Err(value.expected(&format!("tables that each begin with [[{name}]]")));
        }
        value.list()
    }

    fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// "did you mean …" if something is near, else all there is.
pub(super) fn suggest(found: &str, known: &[&str]) -> String {
    // An abbreviation is as near as a typing error.
    let far = |name: &str| if found.len() > 2 && name.starts_with(found) { 1 } else { distance(found, name) };
    let mut near: Vec<_> = known.iter().map(|&name| (far(name), name)).collect();
    near.retain(|&(d, name)| d <= (name.len().max(found.len()) / 3).max(1));
    near.sort_by_key(|&(d, _)| d);
    let names: Vec<_> = near.iter().take(3).map(|&(_, name)| name).collect();
    match (names.as_slice(), known) {
        ([], []) => "none is defined".to_owned(),
        ([], _) => format!("expected {}", one_of(known)),
        (_, _) => format!("did you mean {}?", one_of(&names)),
    }
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Edits that turn `a` into `b`: characters put in, taken out, replaced, and neighbours swapped (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
