//! Values to rows: inference, declared types, widening in place.

/// What a row does to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    Upsert = 0,
    Update = 1,
    Delete = 2,
}

impl Op {
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Op> {
        match code {
            0 => Some(Op::Upsert),
            1 => Some(Op::Update),
            2 => Some(Op::Delete),
            _ => None,
        }
    }
}
