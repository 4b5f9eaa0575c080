// Package container keeps containers: instances of images with a writable side, a log and a life of
// their own. It turns what was asked for (Config) into a runtime spec, has package sandbox run it, and
// keeps what became of it (State), for as long as the container is not removed.
//
// There is no daemon. A container that runs has a monitor: a process of this program, either the one that
// the user started or one of its own (Init), which holds the container's lock, writes its state and its
// log, and listens on its socket for others who want something of it (Live). When the monitor dies,
// the container's processes die with it, and the free lock tells everybody that what the state says is over.
//
// What is in a container's folder is described in docs/formats.md.
package container
