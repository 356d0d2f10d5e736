//go:build unix

package torture

import "github.com/anishathalye/porcupine"

// annotate adds the events to the picture.
func (v *verdict) annotate(events []event) {
	notes := make([]porcupine.Annotation, 0, len(events))
	for _, e := range events {
		notes = append(notes, porcupine.Annotation{Tag: e.who, Start: max(int64(e.at), 0), Description: e.text})
	}
	v.info.AddAnnotations(notes)
}
