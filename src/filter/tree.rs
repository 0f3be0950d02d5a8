//! A filter as a tree of tests, and its text form.

use std::fmt;

use super::literal::Scalar;
use super::path::FieldPath;

/// Tests of fields, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// All of two or more; none of them is an `And` itself.
    And(Vec<Node>),
    /// Any of two or more; none of them is an `Or` itself.
    Or(Vec<Node>),
    /// Not this, which is no `Not` itself.
    Not(Box<Node>),
    /// A test of one field.
    Test(FieldPath, Test),
}

/// What is asked of a field. All but the last two hold if they hold for one of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Equal(Scalar),
    Compare(Comparison, Scalar),
    /// Both ends included, and of one kind.
    Between(Scalar, Scalar),
    /// In ascending order, each once.
    In(Vec<Scalar>),
    StartsWith(String),
    /// It is there, whatever it holds.
    Exists,
    /// It is there and holds no value: an empty list.
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

impl Node {
    /// Calls `visit` with every field that is named, as often as it is.
    pub fn fields<'a>(&'a self, visit: &mut impl FnMut(&'a FieldPath)) {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| node.fields(visit)),
            Node::Not(node) => node.fields(visit),
            Node::Test(path, _) => visit(path),
        }
    }

    /// How tightly the outermost word binds.
    fn rank(&self) -> u8 {
        match self {
            Node::Or(_) => 0,
            Node::And(_) => 1,
            Node::Not(_) | Node::Test(..) => 2,
        }
    }

    /// Writes it where only what binds as tightly as `rank` stands without parentheses.
    fn write(&self, f: &mut fmt::Formatter<'_>, rank: u8) -> fmt::Result {
        if self.rank() < rank {
            f.write_str("(")?;
            self.write(f, 0)?;
            return f.write_str(")");
        }
        match self {
            Node::And(nodes) => joined(f, nodes, " and ", 2),
            Node::Or(nodes) => joined(f, nodes, " or ", 1),
            Node::Test(path, test) => test.write(f, path, false),
            Node::Not(node) => match &**node {
                Node::Test(path, test) => test.write(f, path, true),
                other => {
                    f.write_str("not ")?;
                    other.write(f, 3)
                }
            },
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, nodes: &[Node], word: &str, rank: u8) -> fmt::Result {
    for (place, node) in nodes.iter().enumerate() {
        if place > 0 {
            f.write_str(word)?;
        }
        node.write(f, rank)?;
    }
    Ok(())
}

impl Test {
    fn write(&self, f: &mut fmt::Formatter<'_>, path: &FieldPath, negated: bool) -> fmt::Result {
        let not = if negated { "not " } else { "" };
        match self {
            Test::Equal(Scalar::Null) => write!(f, "{path} is {not}null"),
            Test::Empty => write!(f, "{path} is {not}empty"),
            Test::Exists => write!(f, "{not}exists({path})"),
            Test::Equal(value) => write!(f, "{path} {} {value}", if negated { "!=" } else { "=" }),
            Test::Compare(comparison, value) => write!(f, "{not}{path} {} {value}", comparison.symbol()),
            Test::Between(low, high) => write!(f, "{path} {not}between {low} and {high}"),
            Test::StartsWith(prefix) => {
                write!(f, "{path} {not}starts with {}", Scalar::Text(prefix.clone()))
            }
            Test::In(values) => {
                write!(f, "{path} {not}in [")?;
                for (place, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if place > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// In the text form, which parses to the same tree.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
