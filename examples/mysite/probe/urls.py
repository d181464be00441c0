from django.urls import path

from probe import views

urlpatterns = [
    path("upload", views.upload),
    path("stream", views.stream),
    path("slow", views.slow),
    path("environ", views.environ),
]
