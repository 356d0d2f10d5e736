package page

import "net/http"

type signedIn struct{}

type act struct{}

func (p *Page) session(*http.Request, *view) {}

func (p *Page) mayRead(*http.Request, string) bool { return false }
