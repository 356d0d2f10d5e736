package badinput

import (
	"errors"
	"io/fs"
)

func special(string, fs.FileMode) error { return errors.ErrUnsupported }
