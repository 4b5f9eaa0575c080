package main

import "testing"

// TestAlone: a second run does not take the first one's disk away.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	unlock, err := alone(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := freshDisk(dir); err == nil {
		t.Error("a second one has the disk, too")
	}
	unlock()
	if unlock, err = alone(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
}
