from django.urls import path, re_path

from . import views

urlpatterns = [
    path("upload", views.upload),
    path("stream", views.stream),
    path("slow", views.slow),
    path("gate", views.gate),
    path("release", views.release),
    path("large", views.large),
    path("finished", views.finished),
    path("heads", views.heads),
    path("form", views.form),
    path("through/gate", views.gate),
    path("through/first", views.first),
    path("use", views.use),
    path("status", views.status),
    path("environ", views.environ),
    re_path(r"^environ/[\s\S]*", views.environ),  # whatever the path, %0A included
]
