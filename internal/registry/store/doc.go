// Package store keeps images on this machine: blobs, layers, names, cache
// records and what is in use of them, below one root folder that any number of
// processes share without a daemon.
//
// It turns registry uploads into layers that can be mounted (package layer) and
// implements registry.Registry, cache.Cache (through Cache) and what rootfs asks
// of a source of layers. What a layer or manifest means is theirs; this package
// knows where things are, that they are whole, and when they may go.
//
// docs/formats.md describes every file and table and the order in which they are
// written. The rules in short: files are made under tmp/ and renamed into place
// inside the SQLite transaction that records them; whatever refers to content is
// recorded after it; deletion drops the reference in one transaction and the
// content, if nothing refers to it by then, in another.
package store
