//! `srvthreds schema`.

use std::io::{self, Write};

use thredlib::schema::{event_schema, message_schema, pattern_schema};

use super::{
    Outcome,
    args::{Described, SchemaArgs},
};

pub(crate) fn run(args: &SchemaArgs) -> io::Result<Outcome> {
    let schema = match args.of {
        Described::Pattern => pattern_schema(),
        Described::Event => event_schema(),
        Described::Message => message_schema(),
    };
    writeln!(io::stdout().lock(), "{schema:#}")?;
    Ok(Outcome::Good)
}
