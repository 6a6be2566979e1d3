package view

import (
	"net/http"
	"slices"
)

func (s *Server) modelsPage(r *http.Request) (string, page, error) {
	models, err := s.options.Source.Models(r.Context())
	return "models.html", page{Title: "Models", Section: "models", Every: late, Body: models}, err
}

// modelPage shows the newest first.
func (s *Server) modelPage(r *http.Request) (string, page, error) {
	m, err := s.options.Source.Model(r.Context(), r.PathValue("model"))
	if err != nil {
		return "", page{}, err
	}
	slices.Reverse(m.Versions)
	slices.Reverse(m.History)
	return "model.html", page{Title: m.Name, Section: "models", Every: late, Body: m}, nil
}
