package record

// URLError is an invalid store URL, found before any connection is made. It contains no part
// of the URL that may be secret.
type URLError string

// Error implements error.
func (e URLError) Error() string { return string(e) }
