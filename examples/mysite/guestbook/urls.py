from django.urls import path

from guestbook.views import Guestbook

app_name = "guestbook"
urlpatterns = [path("", Guestbook.as_view(), name="home")]
