//! From the text form to a tree.

use super::error::short;
use super::lexer::{Lexer, Placed, Token};
use super::literal::{Literal, Scalar, time};
use super::path::{FieldPath, NOTHING_INSIDE, is_reserved};
use super::tree::{Comparison, Node, Test};
use super::{DEPTH_MAX, Filter, FilterError, build};

type Result<T> = std::result::Result<T, FilterError>;

pub(super) fn parse(text: &str) -> Result<Filter> {
    if text.trim().is_empty() {
        return Err(FilterError::Empty);
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.next()?;
    let mut parser = Parser { text, lexer, next };
    let filter = parser.any_of(0)?;
    match parser.next.token {
        Token::End => filter.checked(),
        Token::Sign(")") => parser.refuse("this `)` closes nothing"),
        _ => parser.refuse("expected `and`, `or`, or the end"),
    }
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Placed,
}

impl Parser<'_> {
    fn refuse<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(FilterError::at(self.text, self.next.at, what))
    }

    /// An error of a value or name is told at its place.
    fn placed<T>(&self, at: usize, result: Result<T>) -> Result<T> {
        result.map_err(|error| FilterError::at(self.text, at, error.to_string()))
    }

    fn advance(&mut self) -> Result<Token> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next).token)
    }

    fn is_word(&self, word: &str) -> bool {
        match &self.next.token {
            Token::Word(found) => found.eq_ignore_ascii_case(word),
            Token::Sign(sign) => *sign == word,
            _ => false,
        }
    }

    /// Takes a keyword (or the sign that stands for it) if it comes next.
    fn take(&mut self, word: &str) -> Result<bool> {
        let is_next = self.is_word(word);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, sign: &'static str, what: &str) -> Result<()> {
        match self.take(sign)? {
            true => Ok(()),
            false => self.refuse(what),
        }
    }

    fn any_of(&mut self, depth: usize) -> Result<Filter> {
        let mut filter = self.all_of(depth)?;
        while self.take("or")? {
            filter = filter | self.all_of(depth)?;
        }
        Ok(filter)
    }

    fn all_of(&mut self, depth: usize) -> Result<Filter> {
        let mut filter = self.factor(depth)?;
        while self.take("and")? {
            filter = filter & self.factor(depth)?;
        }
        Ok(filter)
    }

    fn factor(&mut self, depth: usize) -> Result<Filter> {
        let mut negated = false;
        while self.take("not")? || self.take("!")? {
            negated = !negated;
        }
        let filter = if self.take("(")? {
            if depth >= DEPTH_MAX {
                return Err(FilterError::Depth);
            }
            let filter = self.any_of(depth + 1)?;
            self.expect(")", "expected `)`, `and` or `or`")?;
            filter
        } else if self.take("exists")? {
            self.expect("(", "expected `(` and the name of a field, as in exists(year)")?;
            let path = self.path()?;
            self.expect(")", "expected `)`")?;
            Filter::of(Ok(Node::Test(path, Test::Exists)))
        } else {
            let path = self.path()?;
            let (test, is_not) = self.test()?;
            negated ^= is_not;
            Filter::of(Ok(Node::Test(path, test)))
        };
        Ok(if negated { !filter } else { filter })
    }

    fn path(&mut self) -> Result<FieldPath> {
        let at = self.next.at;
        let first = match &self.next.token {
            Token::Word(word) if is_reserved(word) => {
                return self.refuse(format!(
                    "expected the name of a field, found `{word}`; a field of that name is written `{word}` in backticks"
                ));
            }
            Token::Word(word) | Token::Key(word) => word.clone(),
            Token::End => return self.refuse("expected a test, for example `year >= 2020`"),
            Token::Text(_) => {
                return self.refuse(
                    "expected the name of a field, found a text; a name stands bare or in backticks",
                );
            }
            _ => return self.refuse("expected the name of a field"),
        };
        let is_special = matches!(self.next.token, Token::Word(_)) && first.starts_with('@');
        self.advance()?;
        if is_special {
            let path = self.placed(at, FieldPath::special(&first))?;
            return match self.is_word(".") {
                true => self.refuse(NOTHING_INSIDE),
                false => Ok(path),
            };
        }
        let mut keys = vec![first];
        while self.take(".")? {
            match &self.next.token {
                Token::Word(key) | Token::Key(key) => keys.push(key.clone()),
                _ => {
                    return self.refuse("expected a key; one that is not a plain word stands in backticks");
                }
            }
            self.advance()?;
        }
        Ok(FieldPath::Metadata(keys))
    }

    /// What is asked of a field, and whether it is negated.
    fn test(&mut self) -> Result<(Test, bool)> {
        let comparison = match self.next.token {
            Token::Sign("<") => Some(Comparison::Less),
            Token::Sign("<=") => Some(Comparison::LessOrEqual),
            Token::Sign(">") => Some(Comparison::Greater),
            Token::Sign(">=") => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        if let Some(comparison) = comparison {
            self.advance()?;
            let (at, value) = self.value()?;
            let value = self.placed(at, value.ordered())?;
            return Ok((Test::Compare(comparison, value), false));
        }
        let is_not_equal = self.is_word("!=");
        if is_not_equal || self.is_word("=") {
            self.advance()?;
            if !is_not_equal && matches!(self.next.token, Token::Sign(">" | "<")) {
                return self.refuse("`at least` is written `>=`, `at most` is written `<=`");
            }
            return Ok((Test::Equal(self.value()?.1), is_not_equal));
        }
        if self.take("is")? {
            let negated = self.take("not")?;
            if self.take("null")? {
                return Ok((Test::Equal(Scalar::Null), negated));
            }
            if self.take("empty")? {
                return Ok((Test::Empty, negated));
            }
            return self.refuse("expected `null` or `empty`; compare with `=`");
        }
        let negated = self.take("not")?;
        let test = if self.take("in")? {
            build::one_of(self.list()?)
        } else if self.take("between")? {
            let (at, low) = self.value()?;
            self.expect("and", "expected `and` and the upper end, as in between 1 and 3")?;
            let (_, high) = self.value()?;
            self.placed(at, build::between(Ok(low), Ok(high)))?
        } else if self.take("starts_with")? || self.take("prefix")? {
            Test::StartsWith(self.prefix()?)
        } else if self.take("starts")? {
            self.expect("with", "expected `with`, as in starts with \"a\"")?;
            Test::StartsWith(self.prefix()?)
        } else {
            let what = match negated {
                true => "expected `in`, `between` or `starts with`",
                false => {
                    "expected a test: =, !=, <, <=, >, >=, in, between, starts with, is null, is empty; or exists(…) around the field"
                }
            };
            return self.refuse(what);
        };
        Ok((test, negated))
    }

    fn prefix(&mut self) -> Result<String> {
        match self.value()? {
            (_, Scalar::Text(prefix)) => Ok(prefix),
            (at, other) => Err(FilterError::at(
                self.text,
                at,
                format!("expected a text in quotes, found {}", other.kind()),
            )),
        }
    }

    fn list(&mut self) -> Result<Vec<Scalar>> {
        let closing = match self.next.token {
            Token::Sign("[") => "]",
            Token::Sign("(") => ")",
            _ => return self.refuse("expected a list, as in [\"a\", \"b\"]"),
        };
        self.advance()?;
        let mut values = Vec::new();
        if self.take(closing)? {
            return Ok(values);
        }
        loop {
            values.push(self.value()?.1);
            if self.take(closing)? {
                return Ok(values);
            }
            self.expect(",", &format!("expected `,` or `{closing}`"))?;
        }
    }

    /// A value and where it begins.
    fn value(&mut self) -> Result<(usize, Scalar)> {
        let at = self.next.at;
        let value = match &self.next.token {
            Token::Number(number) => Scalar::Number(*number),
            Token::Text(text) => Scalar::Text(text.clone()),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "true" => Scalar::Bool(true),
                "false" => Scalar::Bool(false),
                "null" => Scalar::Null,
                "time" => return Ok((at, self.time()?)),
                _ => {
                    let word = short(word);
                    return self.refuse(format!(
                        "expected a value, found `{word}`; a text stands in quotes: \"{word}\""
                    ));
                }
            },
            Token::End => return self.refuse("expected a value, found the end"),
            Token::Key(_) => {
                return self.refuse("expected a value, found a key in backticks; a text stands in quotes");
            }
            Token::Sign("[") => return self.refuse("expected one value; several are asked for with `in`"),
            Token::Sign(_) => return self.refuse("expected a value"),
        };
        self.advance()?;
        Ok((at, value))
    }

    fn time(&mut self) -> Result<Scalar> {
        self.advance()?;
        self.expect(
            "(",
            "expected `(`, as in time(\"2024-01-31T23:59:00Z\"); a text stands in quotes",
        )?;
        let at = self.next.at;
        let Token::Text(text) = self.next.token.clone() else {
            return self.refuse("expected a time in quotes, as in time(\"2024-01-31T23:59:00Z\")");
        };
        self.advance()?;
        self.expect(")", "expected `)`")?;
        let Literal(value) = time(&text);
        self.placed(at, value)
    }
}
