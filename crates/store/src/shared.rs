//! A shared or boxed store is a store, so that callers choose who owns it.

use crate::{Capabilities, Counters, ObjectMeta, ObjectPath, ObjectWriter, PutMode, Result, Store};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

macro_rules! forward_to_the_store_inside {
    ($pointer:ident) => {
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn describe(&self) -> String {
                (**self).describe()
            }
            fn put(&self, path: &ObjectPath, body: &[&[u8]], mode: PutMode) -> Result<ObjectMeta> {
                (**self).put(path, body, mode)
            }
            fn writer(&self, path: &ObjectPath) -> Result<Box<dyn ObjectWriter>> {
                (**self).writer(path)
            }
            fn get_with_meta(&self, path: &ObjectPath) -> Result<(Vec<u8>, ObjectMeta)> {
                (**self).get_with_meta(path)
            }
            fn get(&self, path: &ObjectPath) -> Result<Vec<u8>> {
                (**self).get(path)
            }
            fn get_range(&self, path: &ObjectPath, offset: u64, buf: &mut [u8]) -> Result<()> {
                (**self).get_range(path, offset, buf)
            }
            fn get_tail(&self, path: &ObjectPath, len_max: u64) -> Result<(Vec<u8>, u64)> {
                (**self).get_tail(path, len_max)
            }
            fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
                (**self).head(path)
            }
            fn list(&self, dir: Option<&ObjectPath>, start_after: Option<&str>) -> Result<Vec<ObjectMeta>> {
                (**self).list(dir, start_after)
            }
            fn list_dirs(&self, dir: Option<&ObjectPath>) -> Result<Vec<String>> {
                (**self).list_dirs(dir)
            }
            fn delete(&self, path: &ObjectPath) -> Result<()> {
                (**self).delete(path)
            }
            fn delete_all(&self, paths: &[ObjectPath]) -> Result<()> {
                (**self).delete_all(paths)
            }
            fn now(&self) -> Result<Timestamp> {
                (**self).now()
            }
            fn probe(&self) -> Result<Capabilities> {
                (**self).probe()
            }
            fn clean(&self, age: Duration) -> Result<u64> {
                (**self).clean(age)
            }
            fn counters(&self) -> Counters {
                (**self).counters()
            }
        }
    };
}

forward_to_the_store_inside!(Arc);
forward_to_the_store_inside!(Box);
