//! BERT under training: its parameters, its layers and their derivatives.

mod backward;
mod forward;
mod layout;

pub(crate) use layout::BertLayout;
