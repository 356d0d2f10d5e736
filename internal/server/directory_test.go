package server

import "testing"

// TestARefusedStreamTakesNoPlace: once another one is closed, the next has its place.
func TestARefusedStreamTakesNoPlace(t *testing.T) {
	t.Parallel()
	var d Directory
	d.streams.Store(mostStreams - 1)
	closed, ok := d.openStream()
	if !ok {
		t.Fatal("the last place is refused")
	}
	if _, ok := d.openStream(); ok || d.Streams() != mostStreams {
		t.Errorf("beyond the limit: %t, %d are open", ok, d.Streams())
	}
	closed()
	if _, ok := d.openStream(); !ok {
		t.Error("refused, though a stream has ended")
	}
}
