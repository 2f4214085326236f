//! The data of a simulated node: strings, lists and hashes in sixteen databases.
//!
//! Knows no connection. Invariant: every key that a command has changed is in `changed` until
//! somebody takes it.

use std::collections::{BTreeMap, VecDeque};

use super::log::name_of;
use super::resp::Value;

/// Databases.
pub const DATABASES: u32 = 16;

/// A key in its database.
pub type Key = (u32, Vec<u8>);

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// What is at a key.
#[derive(Clone, Debug)]
enum Item {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Data {
    items: BTreeMap<Key, Item>,
    /// Keys that have changed since somebody asked.
    pub changed: Vec<Key>,
}

type Answer = Result<Value, Value>;

impl Data {
    /// Runs a command on keys.
    pub fn run(&mut self, database: u32, name: &str, words: &[Vec<u8>]) -> Value {
        let rest = &words[1..];
        let key = || (database, name_of(&rest[0]));
        let answer = match name {
            "get" => self.text(&key()).map(Value::from_text),
            "strlen" => self
                .text(&key())
                .map(|text| Value::Int(text.map_or(0, |text| text.len() as i64))),
            "set" => self.set(key(), &rest[1], Value::ok()),
            "setnx" if self.items.contains_key(&key()) => Ok(Value::Int(0)),
            "setnx" => self.set(key(), &rest[1], Value::Int(1)),
            "getset" => self
                .text(&key())
                .map(Value::from_text)
                .and_then(|old| self.set(key(), &rest[1], old)),
            "getdel" => self.text(&key()).map(|old| {
                self.delete(key());
                Value::from_text(old)
            }),
            "append" => self.append(key(), &rest[1]),
            "incr" => self.add(key(), 1),
            "decr" => self.add(key(), -1),
            "mget" => Ok(self.mget(database, rest)),
            "mset" => self.mset(database, words),
            "del" => Ok(self.count(database, rest, true)),
            "exists" => Ok(self.count(database, rest, false)),
            "type" => Ok(self.kind(&key())),
            "dbsize" => Ok(self.size(database)),
            "llen" => self
                .list(&key())
                .map(|list| Value::Int(list.map_or(0, |list| list.len() as i64))),
            "lrange" => self.lrange(&key()),
            "lpush" => self.push(key(), &rest[1..], true),
            "rpush" => self.push(key(), &rest[1..], false),
            "lpop" => self.pop(key(), true).map(Value::from_text),
            "rpop" => self.pop(key(), false).map(Value::from_text),
            "hset" => self.hset(key(), &rest[1], &rest[2]),
            "hgetall" => self.hgetall(&key()),
            other => panic!("{other} is no command on keys"),
        };
        answer.unwrap_or_else(|error| error)
    }

    /// BLPOP and BRPOP without waiting: which key and which element, if there is any.
    pub fn pop_first(
        &mut self,
        database: u32,
        keys: &[Vec<u8>],
        is_left: bool,
    ) -> Result<Option<Value>, Value> {
        for word in keys {
            let key = (database, name_of(word));
            if let Some(element) = self.pop(key, is_left)? {
                let pair = vec![Value::bulk(word), Value::Bulk(element)];
                return Ok(Some(Value::List(pair)));
            }
        }
        Ok(None)
    }

    /// Whether there is something at a key.
    pub fn has(&self, key: &Key) -> bool {
        self.items.contains_key(key)
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.items.keys()
    }

    fn change(&mut self, key: Key) {
        self.changed.push(key);
    }

    fn text(&self, key: &Key) -> Result<Option<Vec<u8>>, Value> {
        match self.items.get(key) {
            None => Ok(None),
            Some(Item::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Value::error(WRONG_TYPE)),
        }
    }

    fn list(&mut self, key: &Key) -> Result<Option<&mut VecDeque<Vec<u8>>>, Value> {
        match self.items.get_mut(key) {
            None => Ok(None),
            Some(Item::List(list)) => Ok(Some(list)),
            Some(_) => Err(Value::error(WRONG_TYPE)),
        }
    }

    fn set(&mut self, key: Key, text: &[u8], answer: Value) -> Answer {
        self.items.insert(key.clone(), Item::Text(text.to_vec()));
        self.change(key);
        Ok(answer)
    }

    fn delete(&mut self, key: Key) -> bool {
        let was_there = self.items.remove(&key).is_some();
        if was_there {
            self.change(key);
        }
        was_there
    }

    fn append(&mut self, key: Key, more: &[u8]) -> Answer {
        let mut text = self.text(&key)?.unwrap_or_default();
        text.extend(more);
        let length = text.len() as i64;
        self.set(key, &text, Value::Int(length))
    }

    fn add(&mut self, key: Key, step: i64) -> Answer {
        let text = self.text(&key)?.unwrap_or_else(|| b"0".to_vec());
        let number = String::from_utf8_lossy(&text).parse::<i64>();
        let sum = number.map_err(|_| Value::error(NO_INTEGER))? + step;
        self.set(key, sum.to_string().as_bytes(), Value::Int(sum))
    }

    fn mget(&self, database: u32, keys: &[Vec<u8>]) -> Value {
        let one = |word: &Vec<u8>| match self.text(&(database, name_of(word))) {
            Ok(text) => Value::from_text(text),
            Err(_) => Value::Null,
        };
        Value::List(keys.iter().map(one).collect())
    }

    fn mset(&mut self, database: u32, words: &[Vec<u8>]) -> Answer {
        if words.len().is_multiple_of(2) {
            let text = "ERR wrong number of arguments for 'mset' command";
            return Err(Value::error(text));
        }
        for pair in words[1..].chunks(2) {
            self.set((database, name_of(&pair[0])), &pair[1], Value::ok())?;
        }
        Ok(Value::ok())
    }

    fn count(&mut self, database: u32, keys: &[Vec<u8>], deletes: bool) -> Value {
        let mut count = 0;
        for word in keys {
            let key = (database, name_of(word));
            let is_there = if deletes {
                self.delete(key)
            } else {
                self.items.contains_key(&key)
            };
            count += i64::from(is_there);
        }
        Value::Int(count)
    }

    fn kind(&self, key: &Key) -> Value {
        let kind = match self.items.get(key) {
            None => "none",
            Some(Item::Text(_)) => "string",
            Some(Item::List(_)) => "list",
            Some(Item::Hash(_)) => "hash",
        };
        Value::Simple(kind.to_owned())
    }

    fn size(&self, database: u32) -> Value {
        let keys = self.items.keys().filter(|(one, _)| *one == database);
        Value::Int(keys.count() as i64)
    }

    fn lrange(&mut self, key: &Key) -> Answer {
        let list = self.list(key)?;
        let values = list.map_or(Vec::new(), |list| list.iter().cloned().collect());
        Ok(Value::List(values.into_iter().map(Value::Bulk).collect()))
    }

    fn push(&mut self, key: Key, elements: &[Vec<u8>], is_left: bool) -> Answer {
        self.list(&key)?;
        let item = self.items.entry(key.clone());
        let Item::List(list) = item.or_insert_with(|| Item::List(VecDeque::new())) else {
            unreachable!("it is a list or was not there");
        };
        for element in elements {
            if is_left {
                list.push_front(element.clone());
            } else {
                list.push_back(element.clone());
            }
        }
        let length = list.len() as i64;
        self.change(key);
        Ok(Value::Int(length))
    }

    fn pop(&mut self, key: Key, is_left: bool) -> Result<Option<Vec<u8>>, Value> {
        let Some(list) = self.list(&key)? else {
            return Ok(None);
        };
        let element = if is_left {
            list.pop_front()
        } else {
            list.pop_back()
        };
        if list.is_empty() {
            self.items.remove(&key);
        }
        self.change(key);
        Ok(element)
    }

    fn hset(&mut self, key: Key, field: &[u8], value: &[u8]) -> Answer {
        let item = self.items.entry(key.clone());
        let Item::Hash(hash) = item.or_insert_with(|| Item::Hash(BTreeMap::new())) else {
            return Err(Value::error(WRONG_TYPE));
        };
        let old = hash.insert(field.to_vec(), value.to_vec());
        self.change(key);
        Ok(Value::Int(i64::from(old.is_none())))
    }

    fn hgetall(&self, key: &Key) -> Answer {
        match self.items.get(key) {
            None => Ok(Value::Map(Vec::new())),
            Some(Item::Hash(hash)) => {
                let pairs = hash.iter();
                let pairs =
                    pairs.flat_map(|(field, value)| [Value::bulk(field), Value::bulk(value)]);
                Ok(Value::Map(pairs.collect()))
            }
            Some(_) => Err(Value::error(WRONG_TYPE)),
        }
    }
}

impl Value {
    fn from_text(text: Option<Vec<u8>>) -> Self {
        text.map_or(Self::Null, Self::Bulk)
    }
}
