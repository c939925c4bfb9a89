//! YAML with the place of each value. JSON is YAML, too.
//!
//! Anchors, aliases and tags are refused: a short text with them can expand to a large document.

use std::fmt;

use saphyr::Scalar;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};
use serde_json::Value;

use crate::input::document::spelling;

/// Maximum nesting; a document has five levels.
const MAX_DEPTH: usize = 16;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self {
            line: marker.line(),
            column: marker.col() + 1,
        }
    }

    /// Returns the same column some lines below.
    pub(super) fn below(self, lines: usize) -> Self {
        let line = self.line + lines;
        Self { line, ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// Value.
#[derive(Debug)]
pub(super) enum Content {
    Scalar(Value),
    /// Text in literal style (`|`), whose lines are those of the file.
    Block(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Member>),
}

/// Member of a mapping.
#[derive(Debug)]
pub(super) struct Member {
    /// Key in canonical spelling.
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// Text that is no YAML, or more than a document needs.
#[derive(Debug)]
pub(super) struct YamlError {
    pub(super) place: Place,
    pub(super) reason: String,
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self {
            place: Place::of(error.marker()),
            reason: format!("invalid YAML: {}", error.info()),
        }
    }
}

/// Parses the documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event?;
        let place = Place::of(&span.start);
        let refused = |reason: &str| YamlError {
            place,
            reason: reason.to_owned(),
        };
        match event {
            Event::Alias(_) => return Err(refused("aliases are not supported")),
            Event::Scalar(_, _, 1.., _)
            | Event::SequenceStart(1.., _)
            | Event::MappingStart(1.., _) => {
                return Err(refused("anchors are not supported"));
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => return Err(refused("tags are not supported")),
            Event::Scalar(text, style, ..) => loader.scalar(&text, style, place)?,
            Event::SequenceStart(..) => loader.open(place, Open::Sequence(Vec::new()))?,
            Event::MappingStart(..) => loader.open(place, Open::Mapping(Vec::new(), None))?,
            Event::SequenceEnd | Event::MappingEnd => loader.close()?,
            _ => {}
        }
    }
    Ok(loader.documents)
}

/// Builds nodes from events.
#[derive(Default)]
struct Loader {
    documents: Vec<Node>,
    open: Vec<(Place, Open)>,
}

/// Collection that is not complete.
enum Open {
    Sequence(Vec<Node>),
    /// Members, and the key of the next one.
    Mapping(Vec<Member>, Option<(String, Place)>),
}

impl Loader {
    fn open(&mut self, place: Place, open: Open) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            let reason = format!("the document has more than {MAX_DEPTH} levels");
            return Err(YamlError { place, reason });
        }
        self.open.push((place, open));
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some((place, open)) = self.open.pop() else {
            return Ok(());
        };
        let content = match open {
            Open::Sequence(nodes) => Content::Sequence(nodes),
            Open::Mapping(members, _) => Content::Mapping(members),
        };
        self.add(Node { place, content })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, place: Place) -> Result<(), YamlError> {
        if let Some((_, Open::Mapping(members, key @ None))) = self.open.last_mut() {
            let new = spelling(text.to_owned());
            if members.iter().any(|member| member.key == new) {
                let reason = format!("the key '{new}' is given twice");
                return Err(YamlError { place, reason });
            }
            *key = Some((new, place));
            return Ok(());
        }
        let content = match style {
            ScalarStyle::Literal => Content::Block(text.to_owned()),
            ScalarStyle::Plain => Content::Scalar(self.plain(text)),
            _ => Content::Scalar(text.into()),
        };
        self.add(Node { place, content })
    }

    /// Returns the value of a plain scalar. The incumbent's mask is a string of digits, which in YAML is a
    /// number.
    fn plain(&self, text: &str) -> Value {
        let is_mask = match self.open.last() {
            Some((_, Open::Mapping(_, Some((key, _))))) => key == "mask",
            _ => false,
        };
        match Scalar::parse_from_cow(text.into()) {
            Scalar::Integer(number) if !is_mask => number.into(),
            Scalar::FloatingPoint(number) if !is_mask => number.into_inner().into(),
            Scalar::Boolean(flag) => flag.into(),
            Scalar::Null => Value::Null,
            // No text is null, too.
            Scalar::String(text) if text.is_empty() => Value::Null,
            _ => text.into(),
        }
    }

    fn add(&mut self, node: Node) -> Result<(), YamlError> {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some((_, Open::Sequence(nodes))) => nodes.push(node),
            Some((_, Open::Mapping(members, key))) => {
                let Some((key, place)) = key.take() else {
                    let reason = "a key must be a text".to_owned();
                    return Err(YamlError {
                        place: node.place,
                        reason,
                    });
                };
                members.push(Member {
                    key,
                    place,
                    value: node,
                });
            }
        }
        Ok(())
    }
}

impl Node {
    /// Returns the JSON value, without members that are null.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::Block(text) => text.as_str().into(),
            Content::Sequence(nodes) => nodes.iter().map(Self::value).collect(),
            Content::Mapping(members) => {
                let members = members
                    .iter()
                    .map(|member| (&member.key, member.value.value()));
                let given = members.filter(|(_, value)| !value.is_null());
                given.map(|(key, value)| (key.clone(), value)).collect()
            }
        }
    }

    /// Returns whether there is no value.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// Returns the members of a mapping.
    pub(super) fn members(&self) -> Option<&[Member]> {
        match &self.content {
            Content::Mapping(members) => Some(members),
            _ => None,
        }
    }

    /// Returns the member of a mapping with this key.
    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        self.members()?.iter().find(|member| member.key == key)
    }

    /// Returns the place of the value at a path like `IPAddresses[1].mask`, or of the nearest value around
    /// it.
    pub(super) fn locate(&self, path: &str) -> Place {
        self.find(path).unwrap_or(self.place)
    }

    fn find(&self, path: &str) -> Option<Place> {
        let path = path.strip_prefix('.').unwrap_or(path);
        let (next, rest) = if let Some(index) = path.strip_prefix('[') {
            let (index, rest) = index.split_once(']')?;
            let Content::Sequence(nodes) = &self.content else {
                return None;
            };
            (nodes.get(index.parse::<usize>().ok()?)?, rest)
        } else {
            let end = path.find(['.', '[']).unwrap_or(path.len());
            (&self.member(&path[..end])?.value, &path[end..])
        };
        Some(next.locate(rest))
    }
}
