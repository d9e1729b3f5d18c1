//! A compact value from any format that serde reads.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    Number,
    build::{Builder, Built, Open},
};

impl Builder {
    /// Reads one object.
    pub(crate) fn read_object<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Built, D::Error> {
        let mut builder = Self::new();
        deserializer.deserialize_map(ObjectPart(&mut builder))?;
        builder.finish().map_err(D::Error::custom)
    }
}

/// Reads an object and nothing else.
struct ObjectPart<'b>(&'b mut Builder);

impl<'de> Visitor<'de> for ObjectPart<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Part(self.0).visit_map(map)
    }
}

/// Reads any value.
struct Part<'b>(&'b mut Builder);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.null();
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<(), E> {
        self.0.bool(b);
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.0.number(Number::unsigned(n));
        Ok(())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.0.number(Number::signed(n));
        Ok(())
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<(), E> {
        match Number::float(n) {
            Some(n) => self.0.number(n),
            None => self.0.null(),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut list = self.0.open();
        while seq.next_element_seed(Part(self.0))?.is_some() {
            self.0.item(&mut list);
        }
        self.0.close_list(list);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = self.0.open();
        while map.next_key_seed(NamePart(self.0, &mut object))?.is_some() {
            map.next_value_seed(Part(self.0))?;
        }
        self.0.close_object(object);
        Ok(())
    }
}

/// Reads the name of a member.
struct NamePart<'b>(&'b mut Builder, &'b mut Open);

impl<'de> DeserializeSeed<'de> for NamePart<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NamePart<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        self.0.member(self.1, name);
        Ok(())
    }
}
